import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import type { MigrationView } from '../../lib/migration/view.ts';
import { Hosts, type HostsOptions, type Network, type Side, until } from '../e2e/hosts.ts';
import { buildGuest } from '../qemu/guest/build.ts';
import { type QemuVersion, qemuProgram } from '../qemu/guest/installed.ts';
import { SerialConsole } from '../qemu/guest/serial-console.ts';
import { reportsOf, type Verdict, verdict } from '../qemu/guest/witness.ts';
import { type DomainShape, defaultDomain, domainXml } from './domain.ts';
import { LibvirtHost, type LibvirtHostOptions, type LibvirtVersion } from './libvirt-host.ts';

export interface LibvirtMigrationOptions {
  readonly libvirt?: Readonly<Record<Side, LibvirtVersion>>;
  readonly qemu?: QemuVersion;
  readonly shape?: Partial<DomainShape>;
  /** Of both hosts. */
  readonly host?: LibvirtHostOptions;
  readonly agents?: Pick<HostsOptions, 'send' | 'recv' | 'faults'>;
  /** Between the agents, in place of this machine's own. */
  readonly network?: Network;
  /** What is to be on the hosts before the guest is started. */
  readonly before?: (hosts: Readonly<Record<Side, LibvirtHost>>) => void;
}

/** The path of the guest's console on either host. */
const CONSOLE = '/run/console';

/** Two hosts with libvirt and agents, and a domain with the Linux test guest on the first one. */
export class LibvirtMigration {
  readonly hosts: Hosts;
  readonly libvirt: Readonly<Record<Side, LibvirtHost>>;
  readonly consoles: Readonly<Record<Side, SerialConsole>>;
  readonly shape: DomainShape;
  /** Of the domain. */
  readonly xml: string;
  /** Options of an agent-recv that takes it. */
  readonly allowed: readonly string[];

  private constructor(
    hosts: Hosts,
    libvirt: LibvirtMigration['libvirt'],
    consoles: LibvirtMigration['consoles'],
    shape: DomainShape,
    xml: string,
    allowed: readonly string[],
  ) {
    this.hosts = hosts;
    this.libvirt = libvirt;
    this.consoles = consoles;
    this.shape = shape;
    this.xml = xml;
    this.allowed = allowed;
  }

  /** The guest is up, and both agents serve. */
  static async prepare(options: LibvirtMigrationOptions = {}): Promise<LibvirtMigration> {
    const { qemu = '10.0', agents = {} } = options;
    const { network = { address: '127.0.0.1', source: [], destination: [] } } = options;
    const versions = options.libvirt ?? { source: '11.3', destination: '11.3' };
    const image = await buildGuest();
    const [source, destination] = await Promise.all([
      LibvirtHost.start('hosta', versions.source, options.host),
      LibvirtHost.start('hostb', versions.destination, options.host),
    ]);
    const first = await SerialConsole.listen(path.join(source.dir, CONSOLE));
    const second = await SerialConsole.listen(path.join(destination.dir, CONSOLE), first);
    for (const { path } of [first, second]) fs.chmodSync(path, 0o666); // whoever runs QEMU
    options.before?.({ source, destination });
    const { shared } = options.host ?? {};
    const boots = [path.dirname(qemuProgram(qemu)), image.kernel, image.initramfs, CONSOLE];
    const paths = [...boots, ...(shared === undefined ? [] : [shared])];
    const allowed = paths.flatMap((one) => ['--libvirt-allow-path', one]);
    const hosts = await Hosts.start({
      ...agents,
      network: {
        address: network.address,
        source: [...network.source, ...source.prefix],
        destination: [...network.destination, ...destination.prefix],
      },
      recv: [...allowed, ...(agents.recv ?? [])],
    });
    const shape = { ...defaultDomain(qemu), ...options.shape };
    const xml = domainXml(image, { ...shape, emulator: qemuProgram(qemu), console: CONSOLE });
    const migration = new LibvirtMigration(
      hosts,
      { source, destination },
      { source: first, destination: second },
      shape,
      xml,
      allowed,
    );
    try {
      await migration.boot();
      return migration;
    } catch (error) {
      await migration.end();
      throw error;
    }
  }

  /** Starts the guest at its source and waits until everything that it does has begun. */
  async boot(): Promise<void> {
    const file = path.join(this.libvirt.source.dir, 'vm1.xml');
    fs.writeFileSync(file, this.xml);
    for (const console of Object.values(this.consoles)) await console.forget(); // an earlier one
    await this.libvirt.source.virsh('create', file);
    await reportsOf(this.consoles.source, this.#witnessed, 1, 0);
  }

  migrate(...options: string[]): Promise<MigrationView & { exit: number }> {
    return this.hosts.source.migrate(this.hosts.destination, options);
  }

  /** What the source has written down of a migration. */
  ledgerOf(id: string): string {
    const { send } = this.hosts.source.places.stateDirs;
    return fs.readFileSync(path.join(send, 'ledgers', `${id}.ndjson`), 'utf8');
  }

  state(side: Side) {
    return this.libvirt[side].state();
  }

  /** As `mustBeatAt`, once the guest has checked everything again. */
  async mustRunAt(side: Side): Promise<void> {
    await this.mustBeatAt(side);
    const { bad, clean } = await this.verdict(side);
    assert(clean, bad.join('\n'));
  }

  /** Neither journal has anything open. */
  async mustHaveEnded(): Promise<void> {
    const { source, destination } = this.hosts;
    const ended = async () => {
      const views = [...(await source.list('send')), ...(await destination.list('recv'))];
      return views.every(({ phase }) => phase === 'ended');
    };
    await until(ended, `all migrations have ended\n${this.log}`);
  }

  /** Libvirt says that it runs there, its heart beats there, and it has found nothing wrong so far. */
  async mustBeatAt(side: Side): Promise<void> {
    const runs = async () => (await this.state(side)) === 'running';
    await until(runs, `the guest runs at its ${side}\n${this.log}`);
    await this.consoles[side].line(/^beat/);
    const { source, destination } = this.consoles;
    const { bad } = verdict(source, ...(side === 'destination' ? [destination] : []));
    assert(bad.length === 0, bad.join('\n'));
  }

  async mustHaveMoved(): Promise<void> {
    await this.mustBeatAt('destination');
    await until(
      async () => (await this.state('source')) === undefined,
      'it is gone from its source',
    );
  }

  /** The guest has stayed, and nothing of it is left on its destination: no domain, no memory. */
  async mustHaveStayed(): Promise<void> {
    const { ramDir } = this.hosts;
    const gone = async () => (await this.state('destination')) === undefined;
    await until(gone, 'libvirt has no such domain at the destination');
    const memory = () => fs.readdirSync(ramDir, { recursive: true, withFileTypes: true });
    await until(() => !memory().some((entry) => entry.isFile()), `${ramDir} has no file`);
    await this.mustBeatAt('source');
  }

  /** What the guest says of itself after it has checked everything once more. */
  async verdict(at: Side): Promise<Verdict> {
    await reportsOf(this.consoles[at], this.#witnessed, 2);
    const { source, destination } = this.consoles;
    return verdict(source, ...(at === 'destination' ? [destination] : []));
  }

  get #witnessed() {
    const devices = this.shape.devices.includes("dev='vda'") ? (['disk'] as const) : [];
    return { workload: this.shape.workload, cpus: 1, devices };
  }

  get log(): string {
    const { source, destination } = this.hosts;
    return [source.send.log, destination.recv.log].join('\n');
  }

  async end(): Promise<void> {
    await this.hosts.end();
    for (const host of Object.values(this.libvirt)) await host.end();
    for (const console of Object.values(this.consoles)) await console.close();
  }
}
