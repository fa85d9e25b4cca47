import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { ControlClient as AgentClient } from '../../lib/cli/client.ts';
import { type BootOptions, bootSimulatedGuest } from '../../lib/guest/simulated/boot.ts';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { openEntries } from '../../lib/ownership/journal/journal.ts';
import { decodeRecords } from '../../lib/ownership/journal/record.ts';
import { halt } from '../halt.ts';
import { type CommandResult, Daemon, hostDir, runCommand, until } from './daemon.ts';

/** The agents of a host by what they do. */
export type Role = 'send' | 'recv';

/** Where things of a host are. */
export interface HostPlaces {
  /** Working directory of commands. */
  readonly dir: string;
  /** Control sockets of its guests, those that it had and those that it got. */
  readonly guestDir: string;
  /** Their memory: of those that are booted here, and of those that arrive. */
  readonly ramDir: string;
  readonly bootRamDir: string;
  /** What both of its agents share. */
  readonly hostDir: string;
  readonly sockets: Readonly<Record<Role, string>>;
  readonly stateDirs: Readonly<Record<Role, string>>;
}

export interface HostOptions {
  /** Where others reach it. */
  readonly address?: string | undefined;
  /** The command that puts its agents into its network. */
  readonly prefix?: readonly string[] | undefined;
  /** More options of its agents. */
  readonly send?: readonly string[] | undefined;
  readonly recv?: readonly string[] | undefined;
  /** More in the environment of its agents. */
  readonly env?: NodeJS.ProcessEnv | undefined;
}

/** A hypervisor host: its two agents, each with its own state, and guests that both of them see. */
export class Host {
  readonly name: string;
  readonly places: HostPlaces;
  readonly #options: HostOptions;
  readonly #daemons: Daemon[] = [];
  readonly #halted = new Set<number>();
  send!: Daemon;
  recv!: Daemon;
  port = 0;

  constructor(name: string, places: HostPlaces, options: HostOptions = {}) {
    this.name = name;
    this.places = places;
    this.#options = options;
    for (const dir of [places.guestDir, places.hostDir])
      fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  get address(): string {
    return this.#options.address ?? '127.0.0.1';
  }

  /** As a source names it. */
  get target(): string {
    return `${this.address}:${this.port}`;
  }

  agent(role: Role): Daemon {
    return role === 'send' ? this.send : this.recv;
  }

  start(role: Role, fault?: string): Promise<void> {
    return role === 'send' ? this.startSend(fault) : this.startRecv(fault);
  }

  /** @param args options that come last: they win over the usual ones */
  async startSend(fault?: string, args: readonly string[] = []): Promise<void> {
    const { send = [] } = this.#options;
    // On whatever machine: pages could overtake each other only on several.
    const lanes = send.includes('--lanes') ? [] : ['--lanes', '2'];
    this.send = this.#daemon('send', [...lanes, ...send, ...args], fault);
    await this.send.ready();
  }

  /** Again on the port that it had, if it was started before. */
  async startRecv(fault?: string, args: readonly string[] = []): Promise<void> {
    const listen = ['--listen', this.target, '--ram-dir', this.places.ramDir];
    this.recv = this.#daemon('recv', [...listen, ...(this.#options.recv ?? []), ...args], fault);
    await this.recv.ready();
    this.port = this.recv.port ?? this.port;
  }

  #daemon(role: Role, args: readonly string[], fault: string | undefined): Daemon {
    const { guestDir, sockets, stateDirs } = this.places;
    const { prefix = [], env = {} } = this.#options;
    const common = ['--socket', sockets[role], '--state-dir', stateDirs[role]];
    const daemon = new Daemon(
      `agent-${role}`,
      [...common, '--guest-dir', guestDir, ...hostDir(this.places.hostDir), ...args],
      { prefix, fault, env },
    );
    this.#daemons.push(daemon);
    return daemon;
  }

  /** Runs a command of one of its agents as a person would. */
  run(args: readonly string[], role: Role = 'send'): Promise<CommandResult> {
    const all = [...args, '--socket', this.places.sockets[role]];
    return runCommand(`agent-${role}`, all, this.places.dir);
  }

  client(role: Role): AgentClient {
    return new AgentClient(this.places.sockets[role], `agent-${role}`);
  }

  async list(role: Role): Promise<readonly MigrationView[]> {
    const client = this.client(role);
    return (await client.request<{ migrations: MigrationView[] }>('GET', '/migrations')).migrations;
  }

  boot(options: Partial<BootOptions> = {}) {
    const { guestDir, bootRamDir } = this.places;
    return bootSimulatedGuest({
      name: 'vm1',
      memory: '64MiB',
      ramDir: bootRamDir,
      ...options,
      dir: guestDir,
    });
  }

  /** Migrates to the end; the last view and the exit code. */
  async migrate(
    to: { readonly target: string },
    options: readonly string[] = [],
    name = 'vm1',
  ): Promise<MigrationView & { exit: number }> {
    const result = await this.run(['migrate', name, to.target, '--json', ...options]);
    const last = result.stdout.trim().split('\n').at(-1)!;
    assert(last.startsWith('{'), `${result.stdout}${result.stderr}`);
    return { ...(JSON.parse(last) as MigrationView), exit: result.code };
  }

  /** Starts a migration and returns its id at once. */
  async begin(
    to: { readonly target: string },
    options: readonly string[] = [],
    name = 'vm1',
  ): Promise<string> {
    const result = await this.run(['migrate', name, to.target, '--detach', ...options]);
    assert.equal(result.code, 0, result.stderr);
    return result.stdout.trim();
  }

  view(id: string, role: Role = 'send'): Promise<MigrationView> {
    return this.client(role).request('GET', `/migrations/${id}`);
  }

  /** What `cutover --force` and `cancel` do, without the time that a command takes to start. */
  async tell(id: string, what: 'cutover' | 'cancel', role: Role = 'send'): Promise<void> {
    const body = what === 'cutover' ? { force: true } : undefined;
    await this.client(role).request('POST', `/migrations/${id}/${what}`, body);
  }

  /** The migration's view once it has ended. */
  async ended(id: string, role: Role = 'send'): Promise<MigrationView> {
    let view = await this.view(id, role);
    await until(async () => {
      view = await this.view(id, role);
      return view.phase === 'ended';
    }, `migration ${id} has ended`);
    return view;
  }

  socketOf(name: string): string {
    return path.join(this.places.guestDir, `${name}.sock`);
  }

  /** What the guest here says of itself; undefined when there is none. */
  async status(name = 'vm1'): Promise<string | undefined> {
    return (await this.ask<{ status: string }>(name, 'query-status'))?.status;
  }

  /** The process of the guest here. */
  async vmm(name = 'vm1'): Promise<number> {
    const answer = await this.ask<{ pid: number }>(name, 'query-guest');
    assert(answer, `guest ${name} is on host ${this.name}`);
    return answer.pid;
  }

  /** Its process stands still until it goes on. */
  async haltGuest(name = 'vm1'): Promise<void> {
    const pid = await this.vmm(name);
    this.#halted.add(pid);
    await halt(pid);
  }

  /** Guests whose processes stand still go on. */
  continueGuests(): void {
    for (const pid of this.#halted) {
      try {
        process.kill(pid, 'SIGCONT');
      } catch {
        // It was ended by force.
      }
    }
    this.#halted.clear();
  }

  /** Answers are of the guest itself; undefined when there is none. */
  async ask<T>(name: string, command: string): Promise<T | undefined> {
    const guest = await ControlClient.connect(this.socketOf(name), name).catch(() => undefined);
    try {
      return await guest?.execute<T>(command);
    } catch {
      return undefined; // gone in this moment
    } finally {
      guest?.close();
    }
  }

  /** The guest runs here, all its memory is as it wrote it, and its heart goes on beating. */
  async mustRun(name = 'vm1'): Promise<void> {
    const guest = await ControlClient.connect(this.socketOf(name), name);
    try {
      const { status } = await guest.execute<{ status: string }>('query-status');
      assert.equal(status, 'running', `guest ${name} at ${this.name}`);
      const before = await guest.execute<{ ticks: number }>('query-heartbeat');
      await until(async () => {
        const { ticks } = await guest.execute<{ ticks: number }>('query-heartbeat');
        return ticks > before.ticks;
      }, 'the heart beats');
      const check = await guest.execute<{ clean: boolean; bad: number }>('self-check');
      assert(check.clean, `guest ${name} finds ${check.bad} wrong pages`);
    } finally {
      guest.close();
    }
  }

  /** Nothing of the guest is left here: no process, no socket, no memory. */
  async mustBeGone(name = 'vm1'): Promise<void> {
    const { ramDir, bootRamDir } = this.places;
    const files = () => [ramDir, bootRamDir].flatMap((dir) => fs.readdirSync(dir));
    await until(
      () =>
        !fs.existsSync(this.socketOf(name)) && !files().some((file) => file.includes(`-${name}-`)),
      `nothing of guest ${name} is left at ${this.name}`,
    );
  }

  /** Ends a guest as a crash of its hypervisor would, seen from the agents. */
  async quitGuest(name = 'vm1'): Promise<void> {
    const socket = this.socketOf(name);
    const guest = await ControlClient.connect(socket, name);
    const closed = new Promise<void>((resolve) => guest.onClose(() => resolve()));
    await guest.execute('quit').catch(() => {}); // it may be gone before it has answered
    await closed;
    await until(() => !fs.existsSync(socket), `${socket} is gone`);
  }

  /** What its journals leave open. */
  openInJournals(): readonly { readonly agent: string; readonly state: string }[] {
    return (['send', 'recv'] as const).flatMap((role) => {
      const file = path.join(this.places.stateDirs[role], 'journal');
      if (!fs.existsSync(file)) return [];
      const { records } = decodeRecords(fs.readFileSync(file));
      return [...openEntries(records).values()].map(({ migration, state, epoch }) => ({
        agent: `${this.name}.${role}`,
        migration,
        state,
        epoch,
      }));
    });
  }

  mustLive(): void {
    for (const role of ['recv', 'send'] as const) {
      const agent = this.agent(role);
      assert(agent === undefined || agent.alive, `agent-${role} of ${this.name}\n${agent?.log}`);
    }
  }

  /** What its agents have logged, one process after the other. */
  story(): string {
    return this.#daemons
      .map(({ process: { pid, spawnargs }, log }) => {
        const agent = spawnargs
          .find((arg) => arg.endsWith('main.ts'))
          ?.split('/')
          .at(-2);
        return `--- ${agent} of ${this.name}, pid ${pid}\n${log}`;
      })
      .join('');
  }

  async endAgents(signal?: NodeJS.Signals): Promise<void> {
    await Promise.all(this.#daemons.map((daemon) => daemon.end(signal)));
  }

  /** Ends the guests, and fails when any memory of theirs is left over. */
  async endGuests(): Promise<void> {
    const { guestDir, ramDir, bootRamDir } = this.places;
    this.continueGuests();
    for (const file of fs.readdirSync(guestDir))
      if (file.endsWith('.sock'))
        await this.quitGuest(path.basename(file, '.sock')).catch((error) => {
          if (fs.existsSync(path.join(guestDir, file))) throw error;
        }); // one that has moved away ends by itself
    // A VMM gives up its socket first and its memory a moment later.
    const left = () => [ramDir, bootRamDir].flatMap((dir) => fs.readdirSync(dir));
    await until(() => left().length === 0, `no RAM file is left over at ${this.name}`);
  }
}
