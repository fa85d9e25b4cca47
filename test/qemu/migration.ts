import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { MigrationView } from '../../lib/control/view.ts';
import { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import { type Daemon, Hosts, type HostsOptions, until } from '../e2e/hosts.ts';
import { GuestSite } from './guest/guest-site.ts';
import { type QemuVersion, qemuProgram } from './guest/installed.ts';
import { LinuxGuest, type LinuxGuestOptions } from './guest/linux-guest.ts';
import { fullCheck, type Verdict, verdict } from './guest/witness.ts';

export interface QemuMigrationOptions {
  readonly source?: LinuxGuestOptions;
  readonly destination?: {
    readonly qemu?: QemuVersion;
    /** Direct placement with `files`, else stream placement. */
    readonly ram?: 'files' | 'anonymous';
    /** Changes the destination's definition. */
    readonly define?: (definition: Definition) => object;
  };
  readonly agents?: Pick<HostsOptions, 'send' | 'recv' | 'network'>;
}

export interface Definition {
  readonly hypervisor: 'qemu';
  readonly qmp: string;
  readonly command: readonly string[];
  readonly ram: readonly { readonly block: string; readonly file: string }[];
}

/** A Linux guest under a QEMU of its own, both agents, and a destination that is only defined. */
export class QemuMigration {
  readonly hosts: Hosts;
  readonly source: LinuxGuest;
  readonly destination: GuestSite;
  readonly #dir: string;

  private constructor(hosts: Hosts, source: LinuxGuest, destination: GuestSite, dir: string) {
    this.hosts = hosts;
    this.source = source;
    this.destination = destination;
    this.#dir = dir;
  }

  /** The guest is up and both agents serve. */
  static async prepare(options: QemuMigrationOptions = {}): Promise<QemuMigration> {
    const { destination = {}, agents = {} } = options;
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-definitions-'));
    const dirOf = (side: string) => {
      const made = path.join(dir, side);
      fs.mkdirSync(made, { mode: 0o700 });
      return made;
    };
    const [there, here] = [dirOf('destination'), dirOf('source')];
    const hosts = await Hosts.start({
      ...agents,
      send: ['--definitions', here, ...(agents.send ?? [])],
      recv: ['--definitions', there, ...(agents.recv ?? [])],
    });
    const source = await LinuxGuest.start(options.source);
    const { shape } = source.site;
    const { ram = 'anonymous', qemu = '10.0', define = (same: Definition) => same } = destination;
    const site = await GuestSite.prepare({ ram, memoryIn: hosts.ramDir, origin: source.site });
    const write = (side: string, definition: object) =>
      fs.writeFileSync(path.join(side, 'vm1.json'), JSON.stringify(definition), { mode: 0o600 });
    write(here, { hypervisor: 'qemu', qmp: source.site.host.monitor });
    const definition: Definition = {
      hypervisor: 'qemu',
      qmp: site.host.monitor,
      command: [qemuProgram(qemu), ...site.arguments],
      ram: site.host.ramFiles.map((file, i) => ({ block: blockOf(shape, i), file })),
    };
    write(there, define(definition));
    const migration = new QemuMigration(hosts, source, site, dir);
    await source.booted();
    return migration;
  }

  migrate(...options: string[]): Promise<MigrationView & { exit: number }> {
    return this.hosts.migrate(...options);
  }

  /** What the guest says of itself after it has checked everything once more, on either host. */
  async verdict(at: 'source' | 'destination'): Promise<Verdict> {
    await fullCheck(at === 'source' ? this.source.site : this.destination);
    const consoles = [this.source.site.console];
    return verdict(...consoles, ...(at === 'destination' ? [this.destination.console] : []));
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

function blockOf({ machine, nodes }: { machine: string; nodes: 1 | 2 }, node: number): string {
  if (nodes === 2) return `ram-node${node}`;
  return machine.startsWith('microvm') ? 'microvm.ram' : 'pc.ram';
}
