import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import type { CommandResult, Daemon } from './daemon.ts';
import { Host } from './host.ts';

export { type CommandResult, Daemon, until } from './daemon.ts';

/** Where the agents of the two hosts are, when they do not share one network. */
export interface Network {
  /** Of the destination, as the source reaches it. */
  readonly address: string;
  /** The commands that put an agent there. */
  readonly source: readonly string[];
  readonly destination: readonly string[];
}

export interface HostsOptions {
  readonly recv?: readonly string[];
  readonly send?: readonly string[];
  readonly ramDir?: string;
  readonly network?: Network | undefined;
  /** What befalls the agents that are started first. */
  readonly faults?: { readonly recv?: string | undefined; readonly send?: string | undefined };
}

export type Side = 'source' | 'destination';

/** Two hosts on one, of which one only sends and the other only receives. */
export class Hosts {
  readonly dir: string;
  readonly source: Host;
  readonly destination: Host;

  private constructor({ recv = [], send = [], ramDir, network }: HostsOptions) {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-e2e-'));
    const insecure = network ? ['--insecure'] : [];
    const address = network?.address;
    const sourceRam = fs.mkdtempSync('/dev/shm/godwit-e2e-source-');
    const destinationRam = ramDir ?? fs.mkdtempSync('/dev/shm/godwit-e2e-destination-');
    this.source = new Host('source', this.#places('source', sourceRam), {
      address,
      prefix: network?.source,
      send: [...send, ...insecure],
    });
    this.destination = new Host('destination', this.#places('destination', destinationRam), {
      address,
      prefix: network?.destination,
      recv: [...recv, ...insecure],
    });
  }

  static async start(options: HostsOptions = {}): Promise<Hosts> {
    const hosts = new Hosts(options);
    const { recv, send } = options.faults ?? {};
    const started = await Promise.allSettled([hosts.startRecv(recv), hosts.startSend(send)]);
    const failed = started.find(({ status }) => status === 'rejected');
    if (failed === undefined) return hosts;
    await hosts.end(); // nobody else has it
    throw (failed as PromiseRejectedResult).reason;
  }

  #places(side: Side, ramDir: string) {
    const at = (...names: string[]) => path.join(this.dir, ...names);
    return {
      dir: this.dir,
      guestDir: at(side),
      ramDir,
      bootRamDir: ramDir,
      hostDir: at(`${side}-host`),
      sockets: { send: at('send.sock'), recv: at('recv.sock') },
      stateDirs: { send: at('send'), recv: at('recv') },
    };
  }

  get send(): Daemon {
    return this.source.send;
  }

  get recv(): Daemon {
    return this.destination.recv;
  }

  /** Again on the port that it had, if it was started before. */
  startRecv(fault?: string): Promise<void> {
    return this.destination.startRecv(fault);
  }

  startSend(fault?: string): Promise<void> {
    return this.source.startSend(fault);
  }

  get sourceDir(): string {
    return this.source.places.guestDir;
  }

  get destinationDir(): string {
    return this.destination.places.guestDir;
  }

  /** RAM files of received guests. */
  get ramDir(): string {
    return this.destination.places.ramDir;
  }

  get port(): number {
    return this.destination.port;
  }

  /** The destination's, as the source reaches it. */
  get address(): string {
    return this.destination.address;
  }

  get target(): string {
    return this.destination.target;
  }

  at(side: Side): Host {
    return side === 'source' ? this.source : this.destination;
  }

  /** The agent's control socket on that side. */
  socketOf(side: Side): string {
    return this.at(side).places.sockets[side === 'source' ? 'send' : 'recv'];
  }

  stateDirOf(side: Side): string {
    return this.at(side).places.stateDirs[side === 'source' ? 'send' : 'recv'];
  }

  guestDirOf(side: Side): string {
    return this.at(side).places.guestDir;
  }

  boot(options: Partial<BootOptions> = {}) {
    return this.source.boot(options);
  }

  /** Runs a command of agent-send (or agent-recv) as a person would. */
  run(args: readonly string[], agent: 'send' | 'recv' = 'send'): Promise<CommandResult> {
    return (agent === 'send' ? this.source : this.destination).run(args, agent);
  }

  /** Migrates to the end; the last view and the exit code. */
  migrate(...options: string[]): Promise<MigrationView & { exit: number }> {
    return this.source.migrate(this, options);
  }

  migrateGuest(name: string, ...options: string[]): Promise<MigrationView & { exit: number }> {
    return this.source.migrate(this, options, name);
  }

  /** Starts a migration and returns its id at once. */
  begin(...options: string[]): Promise<string> {
    return this.source.begin(this, options);
  }

  view(id: string): Promise<MigrationView> {
    return this.source.view(id);
  }

  /** The migration's view once it has ended. */
  ended(id: string): Promise<MigrationView> {
    return this.source.ended(id);
  }

  /** The guest runs on that side, all its memory is as it wrote it, and its heart goes on beating. */
  mustRunAt(side: Side, name = 'vm1'): Promise<void> {
    return this.at(side).mustRun(name);
  }

  /** Nothing of the guest on that side: no process, no socket, no memory. */
  mustBeGoneFrom(side: Side, name = 'vm1'): Promise<void> {
    return this.at(side).mustBeGone(name);
  }

  /** Ends a guest as a crash of its hypervisor would, seen from the agents. */
  quitGuest(side: Side, name = 'vm1'): Promise<void> {
    return this.at(side).quitGuest(name);
  }

  mustLive(): void {
    this.source.mustLive();
    this.destination.mustLive();
  }

  /** Ends daemons and guests, and fails when anything of them is left over. */
  async end(): Promise<void> {
    const both = [this.source, this.destination];
    await Promise.all(both.map((host) => host.endAgents()));
    for (const host of both) await host.endGuests();
    for (const { places } of both)
      if (places.ramDir.startsWith('/dev/shm/')) fs.rmSync(places.ramDir, { recursive: true });
    fs.rmSync(this.dir, { recursive: true });
  }
}
