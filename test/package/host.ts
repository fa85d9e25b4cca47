import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { poll } from '../../lib/poll.ts';
import type { Ended } from '../cli/run.ts';

const SCRIPT = path.join(import.meta.dirname, 'host.sh');
/** systemd starts in a second or two. */
const START_MS = 200_000;

/** Why there can be no host here, or undefined when there can. */
export function whyNoHost(): string | undefined {
  if (process.getuid?.() !== 0) return 'namespaces need root';
  if (!fs.existsSync('/lib/systemd/systemd')) return 'systemd is not installed';
  if (!fs.existsSync('/usr/bin/dpkg-shlibdeps')) return 'dpkg-dev is not installed';
  return undefined;
}

/** A host with systemd, of its own but for the files below it, which are this machine's. */
export class Host {
  readonly #holder: ChildProcess;
  readonly #dir: string;
  readonly #pid: number;

  private constructor(holder: ChildProcess, dir: string, pid: number) {
    this.#holder = holder;
    this.#dir = dir;
    this.#pid = pid;
  }

  static async start(): Promise<Host> {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-host-'));
    const holder = spawn(SCRIPT, [dir], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    holder.stderr!.setEncoding('utf8').on('data', (piece: string) => {
      said += piece;
    });
    const pid = await poll(START_MS, 20, () => {
      if (holder.exitCode !== null) throw new Error(`there is no host: ${said}`);
      return systemdBelow(holder.pid!);
    });
    const host = new Host(holder, dir, pid!);
    const isUp = await poll(START_MS, 50, async () => {
      const { stdout } = await host.run('systemctl', 'is-system-running');
      return /^(running|degraded)$/m.test(stdout) || undefined;
    });
    if (isUp) return host;
    await host.stop();
    throw new Error(`systemd does not get through: ${said}`);
  }

  /** A command on it, to its end. */
  async run(...command: readonly string[]): Promise<Ended> {
    const args = ['-t', `${this.#pid}`, '-m', '-u', '-i', '-n', '-p', '-C', '-r', '-w', '--'];
    const env = {
      PATH: '/usr/sbin:/usr/bin',
      HOME: '/root',
      LC_ALL: 'C.UTF-8',
      DEBIAN_FRONTEND: 'noninteractive',
    };
    return new Promise((resolve) => {
      execFile(
        'nsenter',
        [...args, ...command],
        { env, maxBuffer: 1 << 24 },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
          resolve({ code, stdout, stderr });
        },
      );
    });
  }

  /** A file of it, as this machine sees it. */
  file(name: string): string {
    return path.join(`/proc/${this.#pid}/root`, name);
  }

  /** Its process 1 takes everything along that runs on it. */
  async stop(): Promise<void> {
    process.kill(this.#pid, 'SIGKILL');
    if (this.#holder.exitCode === null) await once(this.#holder, 'exit');
    fs.rmdirSync(this.#dir);
  }
}

/** The process 1 of a PID namespace that a descendant has made. */
function systemdBelow(pid: number): number | undefined {
  const children = readText(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean);
  for (const child of children.map(Number)) {
    if (readText(`/proc/${child}/comm`) === 'systemd\n') return child;
    const found = systemdBelow(child);
    if (found !== undefined) return found;
  }
  return undefined;
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return ''; // it has ended
  }
}
