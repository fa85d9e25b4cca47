import assert from 'node:assert/strict';
import { DestinationHandover } from '../../agent-recv/handover.ts';
import { SourceHandover } from '../../agent-send/handover.ts';
import { GodwitError } from '../../lib/errors.ts';
import type { GuestCopy } from '../../lib/guest/guest.ts';
import {
  DESTINATION_MACHINE,
  type DestinationStateName,
} from '../../lib/handover/destination-machine.ts';
import { SOURCE_MACHINE, type SourceStateName } from '../../lib/handover/source-machine.ts';
import { type Journal, type JournalChange, openEntries } from '../../lib/journal/journal.ts';
import { decodeRecords, encodeRecord } from '../../lib/journal/record.ts';
import type { Channel, Received } from '../../lib/wire/channel.ts';

/*
 * One migration's handover under a seeded scheduler: both handovers as the agents run them, on
 * disks, guests and connections that are made up and can fail at every step. One action happens at
 * a time, and after each the promise is checked.
 */

export const MIGRATION = '0123456789abcdef';
const FAULT = new GodwitError('cancelled', 'a fault of the schedule');

/** mulberry32: small, fast, and the same everywhere. */
export function randomOf(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Side = 'source' | 'destination';
type CopyState = 'absent' | 'incomplete' | 'paused' | 'running';

/** What a process waits for: the scheduler decides when, and how it ends. */
interface Pending {
  readonly what: string;
  /** Bytes that are being made durable. */
  readonly bytes?: Buffer;
  readonly happen: () => void;
  readonly done: () => void;
  readonly fail: (error: Error) => void;
}

/** An agent between a start and a crash. */
interface Process {
  readonly handover: SourceHandover | DestinationHandover;
  readonly pending: Pending[];
  connection: Connection | undefined;
  /** The connection is gone and it has not noticed yet. */
  loss: Connection | undefined;
}

interface Connection {
  open: boolean;
  /** Made for a recovery: Recover is the first thing said on it. */
  readonly recovery: boolean;
  readonly toSource: Received[];
  readonly toDestination: Received[];
}

class Host {
  disk: Buffer = Buffer.alloc(0);
  copy: CopyState;
  /** The guest has executed here in this tenure. */
  ran: boolean;
  /** Its hypervisor resumes it when the agent dies that had suspended it. */
  resumesByItself = false;
  /** Its agent was started again: what it suspends it stops for good. */
  recovered = false;
  process: Process | undefined;

  constructor(copy: CopyState) {
    this.copy = copy;
    this.ran = copy === 'running';
  }
}

/** What a schedule has been through. */
export interface Tally {
  steps: number;
  crashes: number;
  torn: number;
  cuts: number;
  failedWrites: number;
  failedResumes: number;
  commits: number;
  withdrawals: number;
  moved: number;
  stayed: number;
  decisions: number;
  resumedByItself: number;
  [count: string]: number;
}

export function newTally(): Tally {
  return {
    ...{ steps: 0, crashes: 0, torn: 0, cuts: 0, failedWrites: 0, failedResumes: 0 },
    ...{ commits: 0, withdrawals: 0, moved: 0, stayed: 0, decisions: 0 },
    resumedByItself: 0,
  };
}

export interface ScheduleOptions {
  readonly seed: number;
  readonly tally: Tally;
  /** Faults that may still happen; afterwards everything works. */
  readonly faults?: number;
  /** A crash of that side just before its n-th pending operation is through, and no other fault. */
  readonly crashAt?: { readonly side: Side; readonly operation: number };
  /** A person decides while the other host is down. */
  readonly person?: boolean;
  /** Planted bugs. */
  readonly sourceMachine?: typeof SOURCE_MACHINE;
  readonly destinationMachine?: typeof DESTINATION_MACHINE;
}

/** Runs one schedule to its end. @throws AssertionError with the trace when the promise is broken */
export async function runSchedule(options: ScheduleOptions): Promise<void> {
  const world = new World(options);
  try {
    await world.run();
  } catch (error) {
    const { message } = error as Error;
    throw new Error(`seed ${options.seed}: ${message}\n${world.trace.join('\n')}`, {
      cause: error,
    });
  }
}

type Action = readonly [name: string, act: () => void];

class World {
  readonly trace: string[] = [];
  readonly source = new Host('running');
  readonly destination = new Host('incomplete');
  readonly #options: ScheduleOptions;
  readonly #random: () => number;
  /** As QEMU does, and unlike the simulated guest. */
  readonly #undoesByItself: boolean;
  #faults: number;
  #operations = { source: 0, destination: 0 };
  /** Memory and device state are at the destination. */
  #complete = false;
  /** A person has decided: until both agents have met, there may be two. */
  #decided = false;
  /** A person gave the guest up: it may be lost. */
  #givenUp = false;
  #problem: Error | undefined;

  constructor(options: ScheduleOptions) {
    this.#options = options;
    this.#random = randomOf(options.seed);
    this.#faults = options.faults ?? 0;
    this.#undoesByItself = this.#random() < 0.5;
  }

  async run(): Promise<void> {
    this.#append(this.source, { migration: MIGRATION, state: 'precopy', epoch: 1 });
    this.#append(this.destination, { migration: MIGRATION, state: 'receiving', epoch: 1 });
    this.#start('source');
    this.#start('destination');
    const connection: Connection = {
      open: true,
      recovery: false,
      toSource: [],
      toDestination: [],
    };
    for (const side of SIDES) this.#attach(side, connection);
    for (let step = 0; step < 2000; step++) {
      const actions = this.#actions();
      if (actions.length === 0) return this.#checkEnd();
      const [name, act] = actions[Math.floor(this.#random() * actions.length)]!;
      this.trace.push(name);
      this.#options.tally.steps++;
      act();
      await new Promise(setImmediate); // whatever follows from it, up to the next wait
      this.#check();
    }
    assert.fail('it never comes to an end');
  }

  // ---- what can happen next ----------------------------------------------

  #actions(): Action[] {
    const actions = [...this.#work(), ...this.#network(), ...this.#scenario()];
    // Often enough to meet every step, rarely enough to get as far as the last one.
    if (this.#faults > 0 && (actions.length === 0 || this.#random() < MISHAP_SHARE)) {
      const mishaps = this.#mishaps();
      if (mishaps.length > 0) return mishaps;
    }
    // Waiting is only worth it when nothing else is left: time is long.
    if (actions.length > 0) return actions;
    const later = [...this.#restarts(), ...this.#settlement()];
    return later.length > 0 ? later : this.#leftInJournal();
  }

  /** An end that could not be written is found again, and repeated, by the next start. */
  #leftInJournal(): Action[] {
    return SIDES.filter((side) => {
      const host = this.#host(side);
      return host.process!.handover.state.name === 'ended' && this.#journalOf(host) !== undefined;
    }).map((side) => [`${side} is started again much later`, () => this.#start(side)]);
  }

  /** Operations of the agents, in their order. */
  #work(): Action[] {
    return SIDES.flatMap((side): Action[] => {
      const [next] = this.#host(side).process?.pending ?? [];
      if (next === undefined) return [];
      return [[`${side}: ${next.what}`, () => this.#through(side)]];
    });
  }

  #through(side: Side): void {
    const { crashAt } = this.#options;
    if (crashAt?.side === side && crashAt.operation === this.#operations[side]++)
      return this.#crash(side);
    const operation = this.#host(side).process!.pending.shift()!;
    operation.happen();
    operation.done();
  }

  #network(): Action[] {
    return SIDES.flatMap((side): Action[] => {
      const process = this.#host(side).process;
      if (process === undefined) return [];
      const { connection, loss } = process;
      const queue =
        connection && (side === 'source' ? connection.toSource : connection.toDestination);
      const actions: Action[] = [];
      if (loss) actions.push([`${side} notices the loss`, () => this.#lose(side)]);
      const first = queue?.[0];
      if (first && !loss)
        actions.push([
          `${side} hears ${first.kind} ${JSON.stringify(first.message)}`,
          () => this.#hear(side, queue.shift()!),
        ]);
      return actions;
    });
  }

  /** The migration itself: suspension, and everything arriving. */
  #scenario(): Action[] {
    const source = this.source.process;
    const destination = this.destination.process;
    const together =
      source?.connection !== undefined && source.connection === destination?.connection;
    if (!together || source.loss || destination.loss || source.connection?.recovery) return [];
    const name = source.handover.state.name;
    if (name === 'precopy') return [['suspend', () => this.#tell('source', { type: 'suspend' })]];
    const arrived = this.source.copy === 'paused' && source.pending.length === 0;
    if (name !== 'suspended' || !arrived || this.#complete) return [];
    if (destination.handover.state.name !== 'receiving') return [];
    return [
      [
        'everything has arrived',
        () => {
          this.#complete = true;
          if (this.destination.copy === 'incomplete') this.destination.copy = 'paused';
          this.#tell('destination', { type: 'complete' });
        },
      ],
    ];
  }

  #mishaps(): Action[] {
    const actions: Action[] = [];
    const add = (name: string, act: () => void) =>
      actions.push([
        name,
        () => {
          this.#faults--;
          act();
        },
      ]);
    for (const side of SIDES) {
      const host = this.#host(side);
      const { process } = host;
      if (process === undefined) {
        const act = () => this.#start(side);
        actions.push([`${side} restarts`, act]);
        continue;
      }
      add(`${side} crashes`, () => this.#crash(side));
      const open = ['precopy', 'suspended', 'receiving', 'prepared', 'committed'];
      if (open.includes(process.handover.state.name))
        add(`${side} aborts`, () => this.#tell(side, { type: 'abort', error: FAULT }));
      const [next] = process.pending;
      // A guest that dies after it has run at the destination is not the handover's to save.
      const mayFail = next?.bytes || (next?.what === 'resume' && (side === 'source' || !host.ran));
      if (next !== undefined && mayFail)
        add(`${side} fails to ${next.what}`, () => {
          this.#options.tally[next.bytes ? 'failedWrites' : 'failedResumes']!++;
          if (!next.bytes && host.ran) {
            host.copy = 'absent'; // a guest that has run and does not resume is dead
            this.#givenUp = true;
          }
          process.pending.shift()!.fail(new GodwitError('hypervisor-failed', 'it failed'));
        });
    }
    const connection = this.source.process?.connection ?? this.destination.process?.connection;
    if (connection?.open)
      add('the connection is cut', () => {
        this.#options.tally.cuts++;
        this.#cut(connection);
      });
    if (this.#options.person) actions.push(...this.#decisions(add));
    return actions;
  }

  /** A person decides only while the other host is down. */
  #decisions(add: (name: string, act: () => void) => void): Action[] {
    for (const side of SIDES) {
      const { process } = this.#host(side);
      const other = this.#host(side === 'source' ? 'destination' : 'source');
      // Elsewhere a decision only ends the telling: a peer that comes back needs a person too.
      const name = process?.handover.state.name ?? '';
      if (!['committed', 'prepared', 'superseded'].includes(name)) continue;
      if (process === undefined || other.process !== undefined || process.pending.length > 0)
        continue;
      for (const choice of ['keep-here', 'give-up'] as const) {
        if (process.handover.dilemma.choices[choice] === undefined) continue;
        add(`a person at the ${side}: ${choice}`, () => {
          this.#options.tally.decisions++;
          this.#decided = true;
          if (choice === 'give-up') this.#givenUp = true;
          process.handover.resolve(choice).catch(() => {});
        });
      }
    }
    return [];
  }

  #restarts(): Action[] {
    return SIDES.filter((side) => this.#host(side).process === undefined).map((side) => [
      `${side} restarts`,
      () => this.#start(side),
    ]);
  }

  /** What agent-send's settlement does: connects, says Recover, hears that nothing is known. */
  #settlement(): Action[] {
    const source = this.source.process;
    const destination = this.destination.process;
    if (!source || !destination) return [];
    const { name, epoch } = source.handover.state;
    if (!['committed', 'aborted', 'released'].includes(name)) return [];
    const { connection } = source;
    if (connection?.open)
      return [['source is not answered', () => this.#cut(connection, 'source')]];
    return [
      [
        'source connects to recover',
        () => {
          const known = this.#journalOf(this.destination) !== undefined;
          if (!known || destination.handover.state.name === 'ended')
            return this.#tell('source', { type: 'forgotten' });
          const connection: Connection = {
            open: true,
            recovery: true,
            toSource: [],
            toDestination: [],
          };
          if (destination.connection) destination.connection.open = false;
          for (const side of SIDES) this.#attach(side, connection);
          const message = { migration: MIGRATION, secret: new Uint8Array(0), epoch, state: name };
          connection.toDestination.push(received('Recover', message));
        },
      ],
    ];
  }

  // ---- agents ------------------------------------------------------------

  #start(side: Side): void {
    const host = this.#host(side);
    const entry = this.#journalOf(host);
    const pending: Pending[] = [];
    const common = {
      migration: MIGRATION,
      journal: this.#journal(host, pending),
      guest: async () => this.#guest(host, pending),
      onReport: () => {},
      onChange: () => {},
      log: () => {},
    };
    const start = { name: entry?.state ?? 'ended', epoch: entry?.epoch ?? 1 };
    const handover =
      side === 'source'
        ? new SourceHandover(
            {
              ...common,
              start: start as { name: SourceStateName; epoch: number },
              late: () => this.#late(),
              beforeCommit: () => this.#lastLook(),
            },
            this.#options.sourceMachine ?? SOURCE_MACHINE,
          )
        : new DestinationHandover(
            { ...common, start: start as { name: DestinationStateName; epoch: number } },
            this.#options.destinationMachine ?? DESTINATION_MACHINE,
          );
    host.process = { handover, pending, connection: undefined, loss: undefined };
    host.recovered = this.trace.length > 0;
    if (host.recovered && start.name !== 'ended')
      this.#tell(side, { type: 'restart', error: FAULT });
  }

  /** Now and then the destination took so long that the deadline has passed. */
  #late(): GodwitError | undefined {
    if (this.#faults === 0 || this.#random() >= 0.1) return undefined;
    this.#faults--;
    return FAULT;
  }

  /** Or the disk did. */
  #lastLook(): GodwitError | undefined {
    const live = this.source.process?.connection?.recovery === false;
    if (live && this.#faults > 0 && this.#random() < 0.3) {
      this.#faults--;
      this.#options.tally.withdrawals++;
      return FAULT;
    }
    this.#options.tally.commits++;
    return undefined;
  }

  #crash(side: Side): void {
    this.#options.tally.crashes++;
    const host = this.#host(side);
    const process = host.process!;
    const [next] = process.pending;
    if (next !== undefined && this.#random() < 0.5) {
      // The machine was in the middle of it: it may have happened, or a part of it.
      if (next.bytes) this.#tear(host, next.bytes);
      else next.happen();
    }
    if (process.connection) this.#cut(process.connection);
    host.process = undefined;
    if (!host.resumesByItself) return;
    this.#options.tally.resumedByItself++;
    host.resumesByItself = false;
    host.copy = 'running';
  }

  /** A write that was never confirmed: nothing, some or all of it is there, or something else. */
  #tear(host: Host, bytes: Buffer): void {
    this.#options.tally.torn++;
    const part = Buffer.from(bytes.subarray(0, Math.floor(this.#random() * (bytes.length + 1))));
    if (part.length < bytes.length && part.length > 0 && this.#random() < 0.3)
      part[Math.floor(this.#random() * part.length)]! ^= 0xff;
    host.disk = Buffer.concat([host.disk, part]);
  }

  #journal(host: Host, pending: Pending[]): Journal {
    const append = (change: JournalChange) => {
      const record = { ...BLANK, ...change };
      const bytes = encodeRecord(record);
      return wait(pending, {
        what: `journal ${change.state} (${change.epoch})`,
        bytes,
        happen: () => {
          host.disk = Buffer.concat([host.disk, bytes]);
        },
      });
    };
    return { append } as unknown as Journal;
  }

  #append(host: Host, change: JournalChange): void {
    host.disk = Buffer.concat([host.disk, encodeRecord({ ...BLANK, ...change })]);
  }

  /** As a start of the agent finds it; a torn tail is cut off for good. */
  #journalOf(host: Host) {
    const { records, end } = decodeRecords(host.disk);
    host.disk = host.disk.subarray(0, end);
    return openEntries(records).get(MIGRATION);
  }

  #guest(host: Host, pending: Pending[]): GuestCopy | undefined {
    if (host.copy === 'absent') return undefined;
    const become = (what: string, copy: CopyState) =>
      wait(pending, {
        what,
        happen: () => {
          if (host.copy === 'absent') return;
          host.resumesByItself = what === 'suspend' && this.#undoesByItself && !host.recovered;
          if (copy === 'running') this.#mayRun(host);
          if (copy === 'absent') this.#mayGo(host);
          host.copy = copy;
          if (copy === 'running') host.ran = true;
        },
      });
    return {
      handle: '',
      suspend: () => become('suspend', 'paused'),
      seal: () => become('seal', 'paused'),
      resume: () => become('resume', 'running'),
      destroy: () => become('destroy', 'absent'),
      suspension: async () => undefined,
      close: () => {},
    };
  }

  #tell(side: Side, event: Parameters<SourceHandover['dispatch']>[0] | { type: 'complete' }): void {
    const { handover } = this.#host(side).process!;
    (handover as SourceHandover).dispatch(event as never).catch((error: Error) => {
      // The driver's own assertion is what this is about; everything else is a fault of ours.
      if (error instanceof assert.AssertionError) this.#problem = error;
      const retry = event.type === 'complete' || event.type === 'suspend';
      if (retry && this.#host(side).process?.handover === handover)
        this.#tell(side, { type: 'abort', error: FAULT });
    });
  }

  // ---- connections -------------------------------------------------------

  #attach(side: Side, connection: Connection): void {
    const { process } = this.#host(side);
    if (process === undefined) return;
    process.connection = connection;
    process.loss = undefined;
    const queue = side === 'source' ? connection.toDestination : connection.toSource;
    process.handover.speakThrough({
      send: (kind: Received['kind'], message: never) => {
        if (!connection.open) throw new GodwitError('peer-closed', 'closed');
        queue.push(received(kind, message));
        return 0;
      },
      destroy: () => this.#cut(connection, side),
      close: () => this.#cut(connection, side),
    } as unknown as Channel);
  }

  /** What is on its way is lost, or at most heard by a side that has not noticed. */
  #cut(connection: Connection, by?: Side): void {
    if (!connection.open) return;
    connection.open = false;
    for (const side of SIDES) {
      const { process } = this.#host(side);
      if (process?.connection !== connection) continue;
      const queue = side === 'source' ? connection.toSource : connection.toDestination;
      queue.length = Math.floor(this.#random() * (queue.length + 1));
      if (side === by) {
        process.connection = undefined;
        process.handover.speakThrough(undefined);
      } else if (queue.length > 0) {
        queue.push(received('Verdict', LOSS as never));
      } else process.loss = connection;
    }
  }

  #lose(side: Side): void {
    const process = this.#host(side).process!;
    process.connection = undefined;
    process.loss = undefined;
    process.handover.speakThrough(undefined);
    this.#tell(side, { type: 'lost', error: FAULT });
  }

  #hear(side: Side, message: Received): void {
    const process = this.#host(side).process!;
    if ((message.message as unknown) === LOSS) {
      process.loss = process.connection;
      return;
    }
    process.handover.hear(message);
  }

  // ---- the promise -------------------------------------------------------

  #check(): void {
    if (this.#problem) throw this.#problem;
    const two = this.source.copy === 'running' && this.destination.copy === 'running';
    assert(!two || this.#decided, 'two copies run');
  }

  #mayRun(host: Host): void {
    if (host === this.destination && !this.#complete)
      this.#problem = new assert.AssertionError({ message: 'a copy without its memory runs' });
  }

  #mayGo(host: Host): void {
    if (this.#givenUp) return;
    const other = host === this.source ? this.destination : this.source;
    const only = host.ran && !other.ran;
    if (only || (host === this.destination && host.ran && !this.#decided))
      this.#problem = new assert.AssertionError({ message: 'the last copy is destroyed' });
  }

  /** Nothing can happen any more: exactly one runs, and nothing is open. */
  #checkEnd(): void {
    const copies = [this.source, this.destination];
    const running = copies.filter(({ copy }) => copy === 'running').length;
    const states = SIDES.map((side) => this.#host(side).process!.handover.state.name);
    const settled = states.every((name) => name === 'ended' || name === 'superseded');
    const seen = `source ${this.source.copy}, destination ${this.destination.copy}, ${states}`;
    assert(settled || this.#decided, `still open: ${seen}`);
    if (this.#givenUp) assert(running <= 1, `two run: ${seen}`);
    else assert.equal(running, 1, seen);
    if (this.#decided) return;
    for (const host of copies) {
      assert(host.copy === 'running' || host.copy === 'absent', `left over: ${seen}`);
      assert.equal(this.#journalOf(host), undefined, 'the journal is not empty');
    }
    this.#options.tally[this.destination.copy === 'running' ? 'moved' : 'stayed']!++;
  }

  #host(side: Side): Host {
    return side === 'source' ? this.source : this.destination;
  }
}

const SIDES: readonly Side[] = ['source', 'destination'];
const LOSS = {};
const MISHAP_SHARE = 0.12;
const BLANK = {
  ...{ migration: MIGRATION, state: '', epoch: 1, time: 0, guest: 'vm1', hypervisor: 'simulated' },
  ...{ handle: '1', peer: 'hostb:7070', secret: new Uint8Array(16), code: '', text: '' },
};

function received(kind: Received['kind'], message: object): Received {
  return { kind, message, sequence: 0, payload: Buffer.alloc(0) } as unknown as Received;
}

function wait(pending: Pending[], operation: Omit<Pending, 'done' | 'fail'>): Promise<void> {
  return new Promise((resolve, reject) => {
    pending.push({ ...operation, done: resolve, fail: reject });
  });
}
