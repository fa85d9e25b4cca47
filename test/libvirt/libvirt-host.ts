import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { LibvirtClient } from '../../lib/guest/libvirt/rpc/client.ts';
import { lookAtDomain, unlessNone } from '../../lib/guest/libvirt/run-state.ts';
import type { RunState } from '../../lib/guest/run-state.ts';
import { until } from '../e2e/hosts.ts';
import { whyNoQemu } from '../qemu/guest/installed.ts';

const run = promisify(execFile);
const script = fileURLToPath(new URL('./host.sh', import.meta.url));

/** Where `.ci/libvirt` unpacks Debian's packages. */
const ROOT = '/opt/godwit-libvirt';

export type LibvirtVersion = '11.3' | '9.0';

/** Why tests with real libvirt hosts cannot run on this machine; undefined when they can. */
export function whyNoLibvirt(): string | undefined {
  const noQemu = whyNoQemu();
  if (noQemu !== undefined) return noQemu;
  if (process.getuid?.() !== 0) return 'hosts in namespaces of their own need root';
  const needed = ['11.3/usr/sbin/libvirtd', '11.3/usr/sbin/virtlockd', '9.0/usr/sbin/libvirtd'];
  const missing = needed.map((file) => `${ROOT}/${file}`).find((file) => !fs.existsSync(file));
  return missing && `${missing} is missing: \`sudo .ci/libvirt\` installs what is needed`;
}

/** The title of a suite that needs libvirt; it says so when the suite is skipped for want of it. */
export function titled(title: string): string {
  const reason = whyNoLibvirt();
  return reason === undefined ? title : `${title} (skipped: ${reason})`;
}

export interface LibvirtHostOptions {
  /** Runs the QEMUs; root unless it says something else. */
  readonly user?: string | undefined;
  /** A directory that other hosts have as well: libvirt's lock manager keeps all but one from a disk in it. */
  readonly shared?: string | undefined;
}

/** A host with a libvirtd of its own, as namespaces of this machine; the network is this machine's. */
export class LibvirtHost {
  readonly dir: string;
  /** What puts a command into it. */
  readonly prefix: readonly string[];
  readonly #holder: ChildProcess;
  #libvirtd: ChildProcess | undefined;
  log = '';

  private constructor(dir: string, holder: ChildProcess) {
    this.dir = dir;
    this.#holder = holder;
    this.prefix = ['nsenter', '-t', `${holder.pid}`, '-m', '-u', '--'];
  }

  static async start(
    name: string,
    version: LibvirtVersion,
    { user = 'root', shared }: LibvirtHostOptions = {},
  ): Promise<LibvirtHost> {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-libvirt-'));
    const args = [dir, name, path.join(ROOT, version), user, shared ?? ''];
    const holder = spawn(script, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [said] = await once(holder.stdout!, 'data');
    assert.equal(`${said}`, 'ready\n');
    const host = new LibvirtHost(dir, holder);
    await host.startLibvirtd();
    return host;
  }

  /** As this process sees it. */
  get socket(): string {
    return path.join(this.dir, 'run/libvirt/libvirt-sock');
  }

  async startLibvirtd(): Promise<void> {
    const [command, ...args] = [...this.prefix, '/usr/sbin/libvirtd'];
    const libvirtd = spawn(command!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    libvirtd.stderr!.on('data', (text) => {
      this.log += text;
    });
    this.#libvirtd = libvirtd;
    await until(async () => {
      const client = await LibvirtClient.connect(this.socket).catch(() => undefined);
      client?.close();
      return client !== undefined;
    }, `libvirtd serves ${this.socket}`);
  }

  /** As when it crashes; its QEMUs stay. */
  async killLibvirtd(): Promise<void> {
    const libvirtd = this.#libvirtd;
    if (libvirtd === undefined || libvirtd.exitCode !== null || libvirtd.signalCode !== null)
      return;
    const ended = once(libvirtd, 'exit');
    libvirtd.kill('SIGKILL');
    await ended;
  }

  virsh(...args: readonly string[]): Promise<string> {
    return this.run('virsh', '-q', '-c', 'qemu:///system', ...args);
  }

  /** A command within it. @returns what it says */
  async run(...words: readonly string[]): Promise<string> {
    const [command, ...args] = [...this.prefix, ...words];
    return (await run(command!, args)).stdout;
  }

  /** What a domain does; undefined when there is none, or it does not run. */
  async state(name = 'vm1'): Promise<RunState | undefined> {
    const client = await LibvirtClient.connect(this.socket);
    try {
      const domain = await unlessNone(client.lookup(name));
      return domain && (await lookAtDomain(client, domain));
    } finally {
      client.close();
    }
  }

  /** The pid of a domain's QEMU while there is one. */
  qemu(name = 'vm1'): number | undefined {
    try {
      return Number(fs.readFileSync(path.join(this.dir, `run/libvirt/qemu/${name}.pid`), 'latin1'));
    } catch {
      return undefined;
    }
  }

  async end(): Promise<void> {
    for (const pid of this.#inside()) process.kill(pid, 'SIGKILL');
    await until(() => this.#inside().length === 0, 'nobody is left on the host');
    fs.rmSync(this.dir, { recursive: true });
  }

  /** All processes that are in its namespace. */
  #inside(): number[] {
    const namespaceOf = (pid: string) => {
      try {
        return fs.readlinkSync(`/proc/${pid}/ns/mnt`);
      } catch {
        return undefined; // it has ended
      }
    };
    this.#namespace ??= namespaceOf(`${this.#holder.pid}`);
    const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return pids.filter((pid) => namespaceOf(pid) === this.#namespace).map(Number);
  }

  #namespace: string | undefined;
}
