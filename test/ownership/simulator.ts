import assert from 'node:assert/strict';
import { asGodwitError, GodwitError } from '../../lib/errors.ts';
import type { GuestCopy } from '../../lib/guest/guest.ts';
import { DestinationHandover } from '../../lib/ownership/destination-handover.ts';
import {
  DESTINATION_MACHINE,
  type DestinationStateName,
} from '../../lib/ownership/destination-machine.ts';
import { GuestRecords, type RecordStore, type Tenure } from '../../lib/ownership/guest-record.ts';
import {
  type JournalChange,
  JournalDoubt,
  type JournalEntry,
} from '../../lib/ownership/journal/journal.ts';
import { encodeRecord } from '../../lib/ownership/journal/record.ts';
import type { Choice } from '../../lib/ownership/machine.ts';
import { DESTINATION_OBLIGATIONS, SOURCE_OBLIGATIONS } from '../../lib/ownership/obligations.ts';
import { SourceHandover } from '../../lib/ownership/source-handover.ts';
import { SOURCE_MACHINE, type SourceStateName } from '../../lib/ownership/source-machine.ts';
import type { Received, Connection as Wire } from '../../lib/wire/connection.ts';
import { randomOf } from '../random.ts';
import {
  BLANK,
  clientOf,
  type DiskOperation,
  execute,
  GUEST,
  type Judge,
  SimulatedCopy,
  SimulatedDisk,
  SimulatedHost,
  SimulatedJournal,
} from './world.ts';

/*
 * Migrations of one guest between three hosts, each with both agents, under a seeded scheduler: the
 * handovers, drivers and records as the agents run them. One thing happens at a time, and after each
 * the promise is checked: never two; and when everybody is back and talks, exactly one.
 */

const FAULT = new GodwitError('cancelled', 'a fault of the schedule');
const HOSTS = ['A', 'B', 'C'] as const;
type Role = 'send' | 'recv';
type AnyHandover = SourceHandover | DestinationHandover;

/** Obligations give up an attempt after at least this, and retries come sooner, ms. */
const LIMIT_MS = 15_000;
/** Often enough to meet every step, rarely enough to get as far as the last one. */
const MISHAP_SHARE = 0.1;
/** How often somebody tries to migrate a guest that is being migrated already. */
const BUSY_SHARE = 0.02;
/** Far more than any schedule needs. */
const MOST_STEPS = 6000;
/** In so many steps of waiting everybody has tried again. */
const QUIET_STEPS = 120;

export interface Tally {
  [count: string]: number;
}

/** Bugs that can be planted, to see whether they are seen. */
export interface Planted {
  readonly sourceMachine?: typeof SOURCE_MACHINE;
  readonly destinationMachine?: typeof DESTINATION_MACHINE;
  readonly sourceObligations?: typeof SOURCE_OBLIGATIONS;
  readonly destinationObligations?: typeof DESTINATION_OBLIGATIONS;
  readonly tenure?: (tenure: Tenure) => Tenure;
  readonly attach?: (found: () => Promise<GuestCopy | 'gone'>) => Promise<GuestCopy | 'gone'>;
  /** The hypervisor's client. */
  readonly client?: (copy: GuestCopy) => GuestCopy;
  readonly store?: (store: RecordStore) => RecordStore;
  /** What a failed write is taken for. */
  readonly writeError?: (error: Error) => Error;
}

export interface ScheduleOptions {
  readonly seed: number;
  readonly tally: Tally;
  /** Faults that may still happen; afterwards everything works. */
  readonly faults?: number;
  /** Migrations that may begin. */
  readonly migrations?: number;
  /** A person decides, more or less wisely. */
  readonly person?: boolean;
  /** An agent that crashes after that step. */
  readonly crash?: { readonly agent: string; readonly step: number };
  readonly planted?: Planted;
}

/** Runs one schedule to its end. @throws Error with the trace when the promise is broken */
export async function runSchedule(options: ScheduleOptions): Promise<void> {
  try {
    await new Simulator(options).run();
  } catch {
    await runAgain({ ...options, tally: {} });
  }
}

/** The same once more, with a trace: a schedule is nothing but its seed. */
async function runAgain(options: ScheduleOptions): Promise<never> {
  const trace: string[] = [];
  const found = await new Simulator(options, trace).run().catch((error: Error) => error);
  const message = found?.message ?? 'broken once, and not again';
  throw new Error(`seed ${options.seed}: ${message}\n${trace.join('\n')}`, { cause: found });
}

/** A migration in one agent's hands. */
interface Entry {
  readonly id: string;
  readonly peer: string;
  readonly handover: AnyHandover;
  copy: SimulatedCopy | undefined;
  connection: Connection | undefined;
  /** The connection is gone and it has not noticed yet. */
  loss: boolean;
  /** It was begun in this process. */
  readonly live: boolean;
  accepted: boolean;
  stuck: boolean;
}

/** An agent between a start and a crash. */
class Process {
  readonly agent: Agent;
  readonly disk: DiskOperation[] = [];
  readonly entries = new Map<string, Entry>();
  /** Connections of offers that are not answered yet. */
  readonly offers = new Set<Connection>();
  readonly timers: { readonly ms: number; readonly fire: () => void }[] = [];
  readonly journal: SimulatedJournal;
  readonly records: GuestRecords;
  /** It was started with the wrong directories: it sees no guest. */
  blind = false;
  dead = false;

  constructor(agent: Agent, { store = (kept) => kept }: Planted) {
    this.agent = agent;
    this.journal = new SimulatedJournal(agent.disk, this.disk);
    const side = agent.role === 'send' ? 'source' : 'destination';
    this.records = new GuestRecords(
      store(agent.host.store(this)),
      { side, journal: agent.name, stateDir: agent.name },
      (migration) => this.journal.entries.has(migration),
    );
  }
}

class Agent {
  readonly host: SimulatedHost;
  readonly role: Role;
  readonly disk = new SimulatedDisk();
  process: Process | undefined;

  constructor(host: SimulatedHost, role: Role) {
    this.host = host;
    this.role = role;
  }

  get name(): string {
    return `${this.host.name}.${this.role}`;
  }
}

interface Connection {
  open: boolean;
  /** Made for a recovery. */
  readonly recovery: boolean;
  readonly toSource: Said[];
  readonly toDestination: Said[];
}

type Said = Received | { readonly kind: 'loss' };
/** Its name is made only for a trace: most schedules need none. */
type Action = readonly [name: () => string, act: () => void];

class Simulator implements Judge {
  readonly #trace: string[] | undefined;
  readonly #options: ScheduleOptions;
  readonly #random: () => number;
  readonly #hosts = new Map<string, SimulatedHost>();
  readonly #agents: Agent[] = [];
  readonly #copies: SimulatedCopy[] = [];
  #processes: readonly Process[] = [];
  readonly #undoesByItself: boolean;
  #faults: number;
  #migrations: number;
  #lastId = 0;
  #lastCopy = 1;
  /** The copy that has executed last: the guest, as its users know it. */
  #guest: SimulatedCopy;
  #decided = false;
  #givenUp = false;
  /** A person kept it where the other side has it, or is not to be told: two are what that risks. */
  #insisted = false;
  /** An agent has reported that two may run. */
  #toldOfTwo = false;
  #problem: Error | undefined;
  #steps = 0;
  /** What was seen when nothing but waiting was left, and since which step. */
  #quiet = { seen: '', since: 0 };

  constructor(options: ScheduleOptions, trace?: string[]) {
    this.#trace = trace;
    this.#options = options;
    this.#random = randomOf(options.seed);
    this.#faults = options.faults ?? 0;
    this.#migrations = options.migrations ?? 3;
    this.#undoesByItself = this.#random() < 0.5;
    for (const name of HOSTS) {
      const host = new SimulatedHost(name);
      this.#hosts.set(name, host);
      for (const role of ['send', 'recv'] as const) this.#agents.push(new Agent(host, role));
    }
    this.#guest = new SimulatedCopy('copy-1', 'A');
    this.#copies.push(this.#guest);
  }

  async run(): Promise<void> {
    for (const agent of this.#agents) this.#start(agent);
    for (let step = 0; step < MOST_STEPS; step++) {
      const actions = this.#actions(step);
      if (actions.length === 0) return this.#checkEnd();
      const [name, act] = actions[Math.floor(this.#random() * actions.length)]!;
      this.#trace?.push(name());
      act();
      await settled();
      if (step === this.#options.crash?.step) await this.#plannedCrash();
      this.#check();
      this.#steps = step;
    }
    assert.fail(`it never comes to an end: ${this.#picture()}`);
  }

  async #plannedCrash(): Promise<void> {
    const agent = this.#agents.find(({ name }) => name === this.#options.crash?.agent)!;
    if (agent.process === undefined) return;
    this.#trace?.push(`${agent.name} crashes, as planned`);
    this.#count('crashes');
    this.#crash(agent);
    await settled();
  }

  // ---- what can happen next ----------------------------------------------

  #actions(step: number): Action[] {
    const actions: Action[] = [];
    this.#disks(actions);
    this.#hypervisors(actions);
    this.#network(actions);
    this.#scenario(actions);
    const mishap = actions.length === 0 || this.#random() < MISHAP_SHARE;
    if (this.#faults > 0 && mishap) {
      const mishaps = this.#mishaps();
      if (mishaps.length > 0) return mishaps;
    }
    if (actions.length > 0) return actions;
    // Waiting is only worth it when nothing else is left: time is long.
    const restarts = this.#restarts();
    if (restarts.length > 0) return restarts;
    const timers = this.#timers((ms) => ms < LIMIT_MS);
    const later = [...timers, ...this.#sweeps(), ...this.#settlement(), ...this.#deadlines()];
    if ((this.#decided || this.#nobodyKnows()) && this.#isQuiet(step)) return [];
    return later;
  }

  /** Some states are for persons: then nothing new for so long is an end. */
  #isQuiet(step: number): boolean {
    const seen = this.#picture();
    if (seen !== this.#quiet.seen) this.#quiet = { seen, since: step };
    return step - this.#quiet.since > QUIET_STEPS;
  }

  #disks(actions: Action[]): void {
    for (const { agent, disk } of this.#processes) {
      const [next] = disk;
      if (next === undefined || agent.host.diskDead) continue;
      const act = () => {
        disk.shift();
        next.happen();
        next.done();
      };
      actions.push([() => `${agent.name}: ${next.what}`, act]);
    }
  }

  #hypervisors(actions: Action[]): void {
    for (const copy of this.#copies) {
      const [next] = copy.commands;
      if (next) actions.push([() => `${copy}: ${next.what}`, () => execute(copy, this)]);
    }
  }

  #network(actions: Action[]): void {
    for (const process of this.#processes)
      for (const entry of process.entries.values()) {
        const name = () => nameOf(process, entry);
        if (entry.loss) {
          actions.push([() => `${name()} notices the loss`, () => this.#lose(entry)]);
          continue;
        }
        const queue = entry.connection && queueOf(process, entry.connection);
        const first = queue?.[0];
        if (queue === undefined || first === undefined) continue;
        const hear = () => this.#hear(process, entry, queue.shift()!);
        actions.push([() => `${name()} hears ${wordsOf(first)}`, hear]);
      }
  }

  /** Migrations begin, suspend their guest, and everything arrives. */
  #scenario(actions: Action[]): void {
    for (const process of this.#processes) {
      if (process.agent.role !== 'send') continue;
      actions.push(...this.#beginnings(process));
      for (const entry of process.entries.values()) {
        const other = this.#otherEnd(process, entry);
        if (!entry.live || !entry.accepted || other === undefined || entry.loss) continue;
        if (entry.connection?.recovery) continue;
        const source = entry.handover as SourceHandover;
        const { name } = source.state;
        if (name === 'precopy' && !entry.stuck)
          actions.push([
            () => `${nameOf(process, entry)} suspends`,
            () => {
              entry.stuck = true; // once
              source.suspend().catch((error) => this.#abort(source, error));
            },
          ]);
        const destination = other.handover as DestinationHandover;
        const copy = other.copy;
        const arrives =
          name === 'suspended' &&
          entry.copy?.state === 'paused' &&
          destination.state.name === 'receiving' &&
          copy?.state === 'incoming';
        if (arrives && !copy.complete)
          actions.push([
            () => `everything of ${entry.id} has arrived`,
            () => {
              copy.complete = true;
              copy.state = 'paused';
              destination.remember('running');
              this.#dispatch(destination, { type: 'complete' });
            },
          ]);
      }
    }
  }

  #beginnings(process: Process): Action[] {
    if (this.#migrations === 0 || process.blind) return [];
    const host = process.agent.host.name;
    if (this.#guest.host !== host || this.#guest.state !== 'running') return [];
    // A second one is refused: seen now and then, and most begin when they can.
    const isBusy = process.agent.host.records.get(GUEST)?.rest === false;
    if (isBusy && this.#random() > BUSY_SHARE) return [];
    return HOSTS.filter((name) => name !== host).flatMap((name): Action[] => {
      if (this.#agent(name, 'recv').process === undefined) return [];
      return [
        [
          () => `a migration ${host}→${name} begins`,
          () => {
            this.#migrations--;
            this.#begin(process, name).catch((error) => {
              this.#trace?.push(`… it does not: ${error.message}`);
              this.#count('refused');
            });
          },
        ],
      ];
    });
  }

  #mishaps(): Action[] {
    const actions: Action[] = [];
    const add = (name: () => string, count: string, act: () => void) =>
      actions.push([
        name,
        () => {
          this.#faults--;
          this.#count(count);
          act();
        },
      ]);
    for (const agent of this.#agents) {
      const { process, name } = agent;
      if (process === undefined) {
        actions.push([() => `${name} starts`, () => this.#start(agent)]);
        add(
          () => `${name} starts with the wrong directories`,
          'blind starts',
          () => {
            this.#start(agent);
            agent.process!.blind = true;
          },
        );
        continue;
      }
      if (process.entries.size > 0 || process.disk.length > 0)
        add(
          () => `${name} crashes`,
          'crashes',
          () => this.#crash(agent),
        );
      this.#diskMishaps(agent, process, add);
      for (const entry of process.entries.values())
        if (['precopy', 'suspended', 'receiving', 'prepared', 'committed'].includes(stateOf(entry)))
          add(
            () => `${nameOf(process, entry)} aborts`,
            'aborts',
            () => this.#dispatch(entry.handover, { type: 'abort', error: FAULT }),
          );
      for (const timer of process.timers)
        if (timer.ms >= LIMIT_MS)
          add(
            () => `${name}: the hypervisor takes too long`,
            'late answers',
            () => {
              process.timers.splice(process.timers.indexOf(timer), 1);
              timer.fire();
            },
          );
    }
    for (const host of this.#hosts.values())
      if (!host.diskDead)
        add(
          () => `the disk of ${host.name} is dead`,
          'dead disks',
          () => {
            host.diskDead = true;
          },
        );
      else actions.push([() => `the disk of ${host.name} is back`, () => repair(host)]);
    for (const copy of this.#copies) this.#copyMishaps(copy, add);
    for (const connection of this.#connections())
      add(
        () => 'a connection is cut',
        'cuts',
        () => this.#cut(connection),
      );
    if (this.#options.person) this.#decisions(add);
    actions.push(...this.#settlement()); // sooner than anybody expects
    return actions;
  }

  #diskMishaps(agent: Agent, process: Process, add: Add): void {
    const [next] = process.disk;
    if (next === undefined) return;
    const { name } = agent;
    const fail = (error: Error) => {
      process.disk.shift();
      next.fail(this.#options.planted?.writeError?.(error) ?? error);
    };
    const failed = new GodwitError('journal-failed', 'it failed');
    add(
      () => `${name} fails to write: ${next.what}`,
      'failed writes',
      () => fail(failed),
    );
    if (agent.host.diskDead) return;
    const doubt = new JournalDoubt('nobody knows whether it is there', undefined);
    add(
      () => `${name} writes and cannot say so: ${next.what}`,
      'doubts',
      () => {
        if (this.#random() < 0.7) next.happen();
        fail(next.record ? doubt : failed);
      },
    );
  }

  #copyMishaps(copy: SimulatedCopy, add: Add): void {
    const [next] = copy.commands;
    if (next && copy.state !== 'gone') {
      add(
        () => `${copy} refuses ${next.what}`,
        'refused commands',
        () => execute(copy, this, 'refused'),
      );
      add(
        () => `${copy} does ${next.what} and does not say so`,
        'unheard answers',
        () => execute(copy, this, 'done, but an error is answered'),
      );
    }
    // A guest that dies after it has run is not the handover's to save.
    if (!copy.ran && copy.state !== 'gone')
      add(
        () => `${copy} dies`,
        'dead copies',
        () => {
          copy.state = 'gone';
          for (const process of this.#processes)
            for (const entry of process.entries.values())
              if (
                entry.copy === copy &&
                entry.live &&
                ['receiving', 'prepared'].includes(stateOf(entry))
              )
                this.#dispatch(entry.handover, { type: 'abort', error: FAULT });
        },
      );
  }

  #decisions(add: Add): void {
    for (const process of this.#processes) {
      if (process.disk.length > 0) continue;
      for (const entry of process.entries.values())
        for (const choice of ['keep-here', 'give-up'] as const) {
          if (entry.handover.dilemma.choices[choice] === undefined) continue;
          add(
            () => `a person at ${nameOf(process, entry)} (${stateOf(entry)}): ${choice}`,
            'decisions',
            () => this.#decide(entry, choice),
          );
        }
    }
  }

  #decide(entry: Entry, choice: Choice): void {
    this.#decided = true;
    if (choice === 'give-up') this.#givenUp = true;
    else if (['aborted', 'running', 'superseded'].includes(stateOf(entry))) this.#insisted = true;
    entry.handover.resolve(choice, 'a person').catch((error) => {
      this.#trace?.push(`… the decision is refused: ${error.message}`);
    });
  }

  #restarts(): Action[] {
    const dead = [...this.#hosts.values()].filter(({ diskDead }) => diskDead);
    const down = this.#agents.filter(({ process }) => process === undefined || process.blind);
    return [
      ...dead.map((host): Action => [() => `the disk of ${host.name} is back`, () => repair(host)]),
      ...down.map(
        (agent): Action => [
          () => `${agent.name} starts`,
          () => {
            if (agent.process) this.#crash(agent);
            this.#start(agent);
          },
        ],
      ),
    ];
  }

  #timers(which: (ms: number) => boolean): Action[] {
    return this.#processes.flatMap((process) =>
      process.timers
        .filter(({ ms }) => which(ms))
        .map(
          (timer): Action => [
            () => `${process.agent.name}: time to try again`,
            () => {
              process.timers.splice(process.timers.indexOf(timer), 1);
              timer.fire();
            },
          ],
        ),
    );
  }

  /** What a settlement does: connects, says Recover, hears that nothing is known. */
  #settlement(): Action[] {
    return this.#processes.flatMap((process) => {
      if (process.agent.role !== 'send') return [];
      return [...process.entries.values()].flatMap((entry): Action[] => {
        const { name, told } = entry.handover.state;
        if (told || !['committed', 'aborted', 'released'].includes(name)) return [];
        if (!entry.accepted)
          return [
            [
              () => `${nameOf(process, entry)} was never accepted`,
              () => void (entry.handover as SourceHandover).hearForgotten().catch(() => {}),
            ],
          ];
        if (entry.connection?.open)
          return [
            [
              () => `${nameOf(process, entry)} is not answered`,
              () => this.#cut(entry.connection!, process),
            ],
          ];
        return [
          [
            () => `${nameOf(process, entry)} connects to recover`,
            () => this.#recover(process, entry),
          ],
        ];
      });
    });
  }

  /** Now and then an agent lets go of what it has claimed for nothing. */
  #sweeps(): Action[] {
    return this.#processes
      .filter(({ agent }) =>
        [...agent.host.records.values()].some(
          ({ rest, journal, migration }) =>
            !rest && journal === agent.name && !agent.process!.journal.entries.has(migration),
        ),
      )
      .map(
        (process): Action => [
          () => `${process.agent.name} sweeps`,
          () => void process.records.sweep().catch(() => {}),
        ],
      );
  }

  /** A guest that is suspended for too long runs on. */
  #deadlines(): Action[] {
    return this.#processes.flatMap((process) =>
      [...process.entries.values()]
        .filter((entry) => stateOf(entry) === 'suspended')
        .map(
          (entry): Action => [
            () => `${nameOf(process, entry)}: the deadline passes`,
            () => this.#dispatch(entry.handover, { type: 'abort', error: FAULT }),
          ],
        ),
    );
  }

  #recover(process: Process, entry: Entry): void {
    const destination = this.#agent(entry.peer, 'recv').process;
    const other = destination?.entries.get(entry.id);
    if (destination === undefined) return;
    const { handover } = entry;
    // With another journal it knows of nothing: who aborted by itself ends by that, and a copy that is
    // prepared there waits for a person.
    const isFree = handover.state.name !== 'committed' && handover.decision === undefined;
    if (destination.blind && isFree) return;
    if (destination.blind || other === undefined || stateOf(other) === 'ended') {
      void (handover as SourceHandover).hearForgotten().catch(() => {});
      return;
    }
    if (other.connection) {
      // Its link is over: nothing of it comes any more.
      this.#cut(other.connection, destination);
      this.#dispatch(other.handover, { type: 'lost', error: FAULT });
    }
    const connection: Connection = {
      ...{ open: true, recovery: true, toSource: [], toDestination: [] },
    };
    this.#attach(process, entry, connection);
    this.#attach(destination, other, connection);
    connection.toDestination.push(received('Recover', {}));
  }

  // ---- agents ------------------------------------------------------------

  #start(agent: Agent): void {
    const process = new Process(agent, this.#options.planted ?? {});
    agent.process = process;
    this.#processes = this.#agents.flatMap((each) => each.process ?? []);
    const open = [...process.journal.entries.values()];
    process.records.sweep().catch(() => {});
    for (const found of open) {
      const tenure = process.records.recovered(GUEST, found.migration, found.epoch);
      const entry = this.#entry(process, found, tenure, false);
      this.#dispatch(entry.handover, { type: 'restart', error: FAULT });
    }
  }

  async #begin(process: Process, to: string): Promise<void> {
    const id = String(++this.#lastId);
    const copy = this.#guest;
    const tenure = await process.records.claim(GUEST, id);
    const { epoch } = tenure;
    if (copy.state !== 'running' || copy.host !== process.agent.host.name) {
      await tenure.rest();
      throw new Error('the guest is not here any more');
    }
    const first = { migration: id, state: 'precopy', epoch, handle: copy.id, peer: to };
    const entry = this.#entry(process, { ...BLANK, ...first }, tenure, true);
    await this.#firstRecord(process, entry, first);
    this.#count('begun');
    const client = this.#client(copy, { agent: process, undoesByItself: this.#undoesByItself });
    entry.handover.use(Promise.resolve(client));
    const connection: Connection = {
      ...{ open: true, recovery: false, toSource: [], toDestination: [] },
    };
    this.#attach(process, entry, connection);
    const destination = this.#agent(to, 'recv').process;
    const gone = () => this.#dispatch(entry.handover, { type: 'lost', error: FAULT });
    if (destination === undefined) return gone();
    this.#offered(destination, entry, connection, copy).catch((error) => {
      this.#trace?.push(`… ${to} turns it away: ${error.message}`);
      const told = new GodwitError('cancelled', error.message, { fromPeer: true });
      this.#dispatch(entry.handover, { type: 'lost', error: told });
    });
  }

  async #offered(
    process: Process,
    offer: Entry,
    connection: Connection,
    origin: SimulatedCopy,
  ): Promise<void> {
    const { id } = offer;
    process.offers.add(connection);
    const tenure = await process.records.claim(GUEST, id, offer.handover.state.epoch);
    const { epoch } = tenure;
    const { host } = process.agent;
    const copy = new SimulatedCopy(`copy-${++this.#lastCopy}`, host.name, origin);
    const peer = origin.host;
    const first = { migration: id, state: 'receiving', epoch, handle: copy.id, peer };
    const entry = this.#entry(process, { ...BLANK, ...first }, tenure, true);
    await this.#firstRecord(process, entry, first);
    if (stateOf(entry) !== 'receiving') throw new Error('it was given up meanwhile');
    this.#copies.push(copy);
    entry.copy = copy;
    const client = this.#client(copy, { agent: process, undoesByItself: false });
    entry.handover.use(Promise.resolve(client));
    if (!connection.open) return this.#dispatch(entry.handover, { type: 'lost', error: FAULT });
    this.#attach(process, entry, connection);
    connection.toSource.push(received('Accept', { epoch }));
  }

  /** Nothing was done yet; whatever is in the journal now is ended there. */
  async #firstRecord(process: Process, { handover }: Entry, first: JournalChange): Promise<void> {
    try {
      await process.journal.append(first);
    } catch (error) {
      const aborted = asGodwitError(error);
      this.#dispatch(handover, { type: 'abort', error: aborted });
      throw error;
    }
  }

  #client(copy: SimulatedCopy, how: Parameters<typeof clientOf>[1]): GuestCopy {
    const client = clientOf(copy, how);
    return this.#options.planted?.client?.(client) ?? client;
  }

  #entry(process: Process, found: JournalEntry, tenure: Tenure, live: boolean): Entry {
    const { planted = {} } = this.#options;
    const copy = this.#copies.find(({ id }) => id === found.handle);
    const { journal, agent } = process;
    const attach = async (): Promise<GuestCopy | 'gone'> => {
      if (process.blind) throw new GodwitError('not-seen', 'no such guest here');
      const copy = entry.copy;
      if (copy === undefined || copy.state === 'gone') return 'gone';
      return this.#client(copy, { agent: process, undoesByItself: false });
    };
    const common = {
      journal,
      tenure: planted.tenure?.(tenure) ?? tenure,
      attach: () => (planted.attach ? planted.attach(attach) : attach()),
      onReport: () => {},
      onChange: () => {},
      log: (_level: string, text: string) => {
        if (text.includes('both have moved it on')) this.#toldOfTwo = true;
      },
      after: (ms: number, fire: () => void) => {
        const timer = { ms, fire };
        process.timers.push(timer);
        return () => {
          const at = process.timers.indexOf(timer);
          if (at !== -1) process.timers.splice(at, 1);
        };
      },
    };
    const handover =
      agent.role === 'send'
        ? new SourceHandover(
            {
              ...common,
              entry: found as JournalEntry & { state: SourceStateName },
              late: () => this.#late(0.1),
              beforeCommit: () => this.#late(live ? 0.2 : 0),
            },
            planted.sourceMachine ?? SOURCE_MACHINE,
            planted.sourceObligations ?? SOURCE_OBLIGATIONS,
          )
        : new DestinationHandover(
            { ...common, entry: found as JournalEntry & { state: DestinationStateName } },
            planted.destinationMachine ?? DESTINATION_MACHINE,
            planted.destinationObligations ?? DESTINATION_OBLIGATIONS,
          );
    const accepted = agent.role === 'recv' || found.secret.length > 0;
    const entry: Entry = {
      ...{ id: found.migration, peer: found.peer, handover, copy, connection: undefined },
      ...{ loss: false, live, accepted, stuck: false },
    };
    process.entries.set(entry.id, entry);
    return entry;
  }

  /** Now and then something took so long that the deadline has passed. */
  #late(share: number): GodwitError | undefined {
    if (this.#faults === 0 || this.#random() >= share) return undefined;
    this.#faults--;
    this.#count('missed deadlines');
    return FAULT;
  }

  #crash(agent: Agent): void {
    const process = agent.process!;
    const [next] = process.disk;
    if (next !== undefined && this.#random() < 0.5) {
      // The machine was in the middle of it: it may have happened, or a part of it.
      if (next.record && this.#random() < 0.5) this.#tear(agent, encodeRecord(next.record));
      else next.happen();
    }
    for (const entry of process.entries.values()) {
      if (entry.connection) this.#cut(entry.connection);
      entry.handover.stop();
    }
    for (const connection of process.offers) this.#cut(connection);
    process.dead = true;
    agent.process = undefined;
    this.#processes = this.#processes.filter((other) => other !== process);
    agent.host.freeClaims(process);
    for (const copy of this.#copies) {
      if (copy.resumesWithout !== process) continue;
      copy.resumesWithout = undefined;
      if (copy.state !== 'paused') continue;
      this.#count('resumed by themselves');
      this.mayRun(copy);
      copy.state = 'running';
    }
  }

  /** A write that was never confirmed: nothing, some or all of it is there, or something else. */
  #tear({ disk }: Agent, bytes: Buffer): void {
    this.#count('torn');
    const part = Buffer.from(bytes.subarray(0, Math.floor(this.#random() * (bytes.length + 1))));
    if (part.length < bytes.length && part.length > 0 && this.#random() < 0.3)
      part[Math.floor(this.#random() * part.length)]! ^= 0xff;
    disk.tail = part;
  }

  // ---- connections -------------------------------------------------------

  #attach(process: Process, entry: Entry, connection: Connection): void {
    entry.connection = connection;
    entry.loss = false;
    const isSource = process.agent.role === 'send';
    const queue = isSource ? connection.toDestination : connection.toSource;
    entry.handover.speakThrough({
      send: (kind: Received['kind'], message: object) => {
        if (!connection.open) throw new GodwitError('peer-closed', 'closed');
        queue.push(received(kind, message));
        return 0;
      },
      destroy: () => this.#cut(connection, process),
    } as unknown as Wire);
  }

  /** What is on its way is lost, or at most heard by a side that has not noticed. */
  #cut(connection: Connection, by?: Process): void {
    if (!connection.open) return;
    connection.open = false;
    for (const process of this.#processes)
      for (const entry of process.entries.values()) {
        if (entry.connection !== connection) continue;
        const queue = queueOf(process, connection);
        queue.length = Math.floor(this.#random() * (queue.length + 1));
        if (process === by) {
          entry.connection = undefined;
          entry.handover.speakThrough(undefined);
        } else if (queue.length > 0) queue.push({ kind: 'loss' });
        else entry.loss = true;
      }
  }

  #lose(entry: Entry): void {
    const { recovery } = entry.connection!;
    entry.connection = undefined;
    entry.loss = false;
    entry.handover.speakThrough(undefined);
    if (!recovery) this.#dispatch(entry.handover, { type: 'lost', error: FAULT });
  }

  #hear(process: Process, entry: Entry, said: Said): void {
    if (said.kind === 'loss') {
      entry.loss = true;
      return;
    }
    if (said.kind !== 'Accept') return void entry.handover.hear(said as never);
    const { epoch } = said.message;
    this.#accepted(process, entry, epoch).catch((error) =>
      this.#abort(entry.handover as SourceHandover, error),
    );
  }

  async #accepted(process: Process, entry: Entry, epoch: number): Promise<void> {
    const secret = new Uint8Array(16);
    const { journal } = process;
    // The one who could be asked later has to be known before anything rests on it.
    const known = journal.entries.get(entry.id);
    if (known === undefined || stateOf(entry) !== 'precopy') return;
    await journal.append({ ...known, secret });
    await entry.handover.adopt(epoch);
    entry.accepted = true;
  }

  #abort(handover: SourceHandover, thrown: unknown): void {
    this.#dispatch(handover, { type: 'abort', error: asGodwitError(thrown) });
  }

  #dispatch(handover: AnyHandover, event: object): void {
    (handover as SourceHandover).dispatch(event as never).catch((error: Error) => {
      if (!(error instanceof GodwitError)) this.#problem = error;
      const { type } = event as { type: string };
      if (type === 'complete') this.#dispatch(handover, { type: 'abort', error: FAULT });
    });
  }

  // ---- the promise -------------------------------------------------------

  /** The guest goes on where it is, or where its memory has gone, and nowhere else. */
  mayRun(copy: SimulatedCopy): void {
    if (!copy.complete) this.#problem ??= violation(`${copy} runs without its memory`);
    const goesOn = copy === this.#guest || (!copy.ran && copy.origin === this.#guest);
    if (!goesOn && !this.#decided)
      this.#problem ??= violation(`${copy} runs again after ${this.#guest} has run`);
    if (copy !== this.#guest) this.#count('handed over');
    this.#guest = copy;
  }

  mayGo(copy: SimulatedCopy): void {
    if (copy === this.#guest && !this.#givenUp)
      this.#problem ??= violation(`${copy} was the guest and is destroyed`);
  }

  #check(): void {
    if (this.#problem) throw this.#problem;
    const running = this.#copies.filter(({ state }) => state === 'running');
    if (running.length > 1 && !this.#decided)
      throw violation(`two copies run: ${running.join(', ')}`);
  }

  /** Nothing can happen any more: exactly one runs, and nothing is open. */
  #checkEnd(): void {
    const copies = this.#copies;
    const running = copies.filter(({ state }) => state === 'running');
    const seen = this.#picture();
    this.#count('schedules');
    this.#count('steps', this.#steps);
    if (this.#nobodyKnows()) return this.#count('for a person');
    if (this.#decided) return this.#checkDecided(running, seen);
    assert.equal(running.length, 1, seen);
    for (const copy of copies)
      assert(copy.state === 'running' || copy.state === 'gone', `left over: ${seen}`);
    for (const { name, disk } of this.#agents)
      assert.equal(disk.read().size, 0, `the journal of ${name} is not empty: ${seen}`);
    for (const host of this.#hosts.values())
      for (const record of host.records.values())
        assert(record.rest, `the record at ${host.name} is not at rest: ${seen}`);
  }

  /** The copy died between being told to run and being seen to. */
  #nobodyKnows(): boolean {
    return this.#processes.some((process) =>
      [...process.entries.values()].some(
        ({ handover }) => handover.waiting?.code === 'outcome-unknown',
      ),
    );
  }

  /**
   * Persons decide wrongly, on both sides, and while the other host is up. Two run on only where an
   * agent reports it, or somebody insisted; none only where one was given
   * up; and whatever is left over waits for somebody who can decide about it.
   */
  #checkDecided(running: readonly SimulatedCopy[], seen: string): void {
    if (running.length > 1) {
      assert(this.#toldOfTwo || this.#insisted, `two run, and nobody says so: ${seen}`);
      this.#count(this.#toldOfTwo ? 'two, and told' : 'two, by persons');
    }
    if (running.length === 0) {
      assert(this.#givenUp, `none runs: ${seen}`);
      this.#count('given up');
    }
    const open = this.#processes.flatMap(({ entries }) =>
      [...entries.values()].filter((entry) => stateOf(entry) !== 'ended'),
    );
    for (const entry of open) {
      const choices = Object.keys(entry.handover.dilemma.choices);
      assert(choices.length > 0, `nobody can decide about ${entry.id}: ${seen}`);
    }
    for (const copy of this.#copies) {
      if (copy.state === 'running' || copy.state === 'gone') continue;
      assert(
        open.some((entry) => entry.copy === copy),
        `nobody knows of ${copy}: ${seen}`,
      );
    }
    for (const host of this.#hosts.values())
      for (const { rest, migration } of host.records.values())
        assert(
          rest || open.some(({ id }) => id === migration),
          `the record at ${host.name} is not at rest: ${seen}`,
        );
  }

  // ---- looking things up -------------------------------------------------

  #picture(): string {
    const entries = this.#processes.flatMap((process) =>
      [...process.entries.values()]
        .filter((entry) => stateOf(entry) !== 'ended')
        .map((entry) => {
          const { state, waiting, standing } = entry.handover;
          return `${nameOf(process, entry)} ${state.name} (${state.epoch}${state.told ? ', told' : ''}) ${standing ?? ''} ${waiting?.message ?? ''}`;
        }),
    );
    const copies = this.#copies.filter(({ state }) => state !== 'gone');
    return [...copies, ...entries].join('; ');
  }

  #connections(): Set<Connection> {
    const open = this.#processes.flatMap(({ entries }) =>
      [...entries.values()].flatMap(({ connection }) => (connection?.open ? [connection] : [])),
    );
    return new Set(open);
  }

  #otherEnd(process: Process, { id, peer, connection }: Entry): Entry | undefined {
    const role = process.agent.role === 'send' ? 'recv' : 'send';
    const other = this.#agent(peer, role).process?.entries.get(id);
    return other?.connection === connection && connection?.open ? other : undefined;
  }

  #host(name: string): SimulatedHost {
    return this.#hosts.get(name)!;
  }

  #agent(host: string, role: Role): Agent {
    return this.#agents.find((agent) => agent.host.name === host && agent.role === role)!;
  }

  #count(what: string, by = 1): void {
    this.#options.tally[what] = (this.#options.tally[what] ?? 0) + by;
  }
}

/**
 * Whatever follows from what has happened, up to the next wait: a tick comes when no microtask is left,
 * and everything here waits for nothing else.
 */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

type Add = (name: () => string, count: string, act: () => void) => void;

function queueOf(process: Process, connection: Connection): Said[] {
  return process.agent.role === 'send' ? connection.toSource : connection.toDestination;
}

function nameOf(process: Process, { id }: Entry): string {
  return `${process.agent.name}#${id}`;
}

function repair(host: SimulatedHost): void {
  host.diskDead = false;
}

function wordsOf(said: Said): string {
  return said.kind === 'loss' ? said.kind : `${said.kind} ${JSON.stringify(said.message)}`;
}

function stateOf({ handover }: Entry): string {
  return handover.state.name;
}

function received(kind: string, message: object): Received {
  const { epoch = 1, ...rest } = message as { epoch?: number };
  const whole = { epoch, state: '', code: 'cancelled', text: '', ...rest };
  return { kind, message: whole, sequence: 0, payload: Buffer.alloc(0) } as unknown as Received;
}

function violation(message: string): Error {
  return new assert.AssertionError({ message });
}
