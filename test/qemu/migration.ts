import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { type Daemon, Hosts, type HostsOptions, type Side, until } from '../e2e/hosts.ts';
import { GuestSite } from './guest/guest-site.ts';
import { type QemuVersion, qemuProgram } from './guest/installed.ts';
import { LinuxGuest, type LinuxGuestOptions } from './guest/linux-guest.ts';
import { fullCheck, type Verdict, verdict } from './guest/witness.ts';
import { busy, idle, type Workload } from './guest/workload.ts';

/** Less memory to send and to check than by default: for tests that are about something else. */
export const small = { memoryMiB: 128, workload: smaller(busy) };
export const smallIdle = { memoryMiB: 128, workload: smaller(idle) };

export function smaller(workload: Workload): Workload {
  return { ...workload, checkedMiB: 32, md5MiB: 4 };
}

export interface QemuMigrationOptions {
  readonly source?: LinuxGuestOptions;
  readonly destination?: {
    readonly qemu?: QemuVersion;
    /** Direct placement with `files`, else stream placement. */
    readonly ram?: 'files' | 'anonymous';
    /** Changes the destination's definition. */
    readonly define?: (definition: Definition) => object;
  };
  readonly agents?: Pick<HostsOptions, 'send' | 'recv' | 'network' | 'ramDir' | 'faults'>;
}

export interface Definition {
  readonly hypervisor: 'qemu';
  readonly qmp: string;
  readonly command: readonly string[];
  readonly ram: readonly { readonly block: string; readonly file: string }[];
  readonly limits?: { readonly memory: string };
}

/** A Linux guest under a QEMU of its own, both agents, and a destination that is only defined. */
export class QemuMigration {
  readonly hosts: Hosts;
  readonly source: LinuxGuest;
  readonly destination: GuestSite;
  /** How the destination is defined. */
  readonly definition: Definition;
  readonly #dir: string;

  private constructor(
    hosts: Hosts,
    source: LinuxGuest,
    destination: GuestSite,
    definition: Definition,
    dir: string,
  ) {
    this.hosts = hosts;
    this.source = source;
    this.destination = destination;
    this.definition = definition;
    this.#dir = dir;
  }

  /** The guest is up and both agents serve. */
  static async prepare(options: QemuMigrationOptions = {}): Promise<QemuMigration> {
    const { destination = {}, agents = {} } = options;
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-definitions-'));
    for (const side of ['source', 'destination'])
      fs.mkdirSync(path.join(dir, side), { mode: 0o700 });
    const hosts = await Hosts.start({
      ...agents,
      send: ['--definitions', path.join(dir, 'source'), ...(agents.send ?? [])],
      recv: ['--definitions', path.join(dir, 'destination'), ...(agents.recv ?? [])],
    });
    const source = await LinuxGuest.start(options.source);
    const { shape } = source.site;
    const { ram = 'anonymous', qemu = '10.0', define = (same: Definition) => same } = destination;
    const site = await GuestSite.prepare({ ram, memoryIn: hosts.ramDir, origin: source.site });
    const definition: Definition = {
      hypervisor: 'qemu',
      qmp: site.host.monitor,
      command: [qemuProgram(qemu), ...site.arguments],
      ram: site.host.ramFiles.map((file, i) => ({ block: blockOf(shape, i), file })),
    };
    const migration = new QemuMigration(hosts, source, site, definition, dir);
    migration.define('source', { hypervisor: 'qemu', qmp: source.site.host.monitor });
    migration.define('destination', define(definition));
    await source.booted();
    return migration;
  }

  /** Where the agents of that side find what guests are. */
  definitionsOf(side: Side): string {
    return path.join(this.#dir, side);
  }

  /** Says what a guest is on that side, from now on; undefined: nothing. */
  define(side: Side, definition: object | undefined, name = 'vm1'): void {
    const file = path.join(this.definitionsOf(side), `${name}.json`);
    if (definition === undefined) fs.rmSync(file);
    else fs.writeFileSync(file, JSON.stringify(definition), { mode: 0o600 });
  }

  migrate(...options: string[]): Promise<MigrationView & { exit: number }> {
    return this.hosts.migrate(...options);
  }

  /** What the guest says of itself after it has checked everything once more, on either host. */
  async verdict(at: Side): Promise<Verdict> {
    await fullCheck(at === 'source' ? this.source.site : this.destination);
    const consoles = [this.source.site.console];
    return verdict(...consoles, ...(at === 'destination' ? [this.destination.console] : []));
  }

  /** Guest and QEMU agree that it runs on that side, and the guest finds nothing wrong. */
  async mustRunAt(side: Side): Promise<void> {
    assert.equal(await this.status(side), 'running', `the guest at its ${side}\n${this.log}`);
    const { bad, clean } = await this.verdict(side);
    assert(clean, bad.join('\n'));
  }

  /** The guest has moved, and QEMU at its source is gone. */
  async mustHaveMoved(): Promise<void> {
    await this.mustRunAt('destination');
    await until(() => !this.source.alive, 'QEMU is gone from the source');
  }

  /** The guest has stayed, and nothing of it is left on its destination: no process, no memory. */
  async mustHaveStayed(): Promise<void> {
    const { ramDir } = this.hosts;
    const memory = () => fs.readdirSync(ramDir, { recursive: true, withFileTypes: true });
    await until(() => this.destinationQemu() === undefined, 'QEMU is gone from the destination');
    await until(() => !memory().some((entry) => entry.isFile()), `${ramDir} has no file`);
    await this.mustRunAt('source');
    this.hosts.mustLive();
  }

  /** QEMU's RunState on that side; undefined when there is no QEMU. */
  async status(side: Side): Promise<string | undefined> {
    const site = side === 'source' ? this.source.site : this.destination;
    const own = side === 'source' ? this.source.qmp : undefined;
    const qmp = own ?? (await QmpClient.connect(site.host.testMonitor).catch(() => undefined));
    try {
      return (await qmp?.execute<{ status: string }>('query-status'))?.status;
    } finally {
      if (qmp !== own) qmp?.close();
    }
  }

  /** The pid of the destination's QEMU while there is one. */
  destinationQemu(): number | undefined {
    const { monitor } = this.destination.host;
    return processes().find(({ commandLine }) => commandLine.includes(`unix:${monitor},`))?.pid;
  }

  get log(): string {
    const { send, recv } = this.hosts;
    const of = (daemon: Daemon) => daemon.log;
    return `${of(send)}\n${of(recv)}\n${this.source.log}`;
  }

  async end(): Promise<void> {
    await endQemu(this.destination.host.testMonitor);
    await this.source.end();
    await this.destination.remove();
    await this.hosts.end();
    fs.rmSync(this.#dir, { recursive: true });
  }
}

export async function setCapability(
  qmp: QmpClient,
  capability: string,
  state: boolean,
): Promise<void> {
  await qmp.execute('migrate-set-capabilities', { capabilities: [{ capability, state }] });
}

/** Ends the QEMU of that monitor, if there is one. */
export async function endQemu(monitor: string): Promise<void> {
  const qmp = await QmpClient.connect(monitor).catch(() => undefined);
  if (qmp === undefined) return;
  const gone = new Promise<void>((resolve) => qmp.onClose(() => resolve()));
  await qmp.execute('quit').catch(() => {});
  await gone;
  await until(async () => {
    const again = await QmpClient.connect(monitor).catch(() => undefined);
    again?.close();
    return again === undefined;
  }, 'QEMU is gone');
}

/** All that live; of one that ends in this moment, an empty command line. */
function processes(): { pid: number; commandLine: string }[] {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map((pid) => {
    try {
      return { pid: Number(pid), commandLine: fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1') };
    } catch {
      return { pid: Number(pid), commandLine: '' };
    }
  });
}

function blockOf({ machine, nodes }: { machine: string; nodes: 1 | 2 }, node: number): string {
  if (nodes === 2) return `ram-node${node}`;
  return machine.startsWith('microvm') ? 'microvm.ram' : 'pc.ram';
}
