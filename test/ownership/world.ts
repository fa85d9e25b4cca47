import { GodwitError } from '../../lib/errors.ts';
import type { GuestCopy } from '../../lib/guest/guest.ts';
import type { RunState } from '../../lib/guest/run-state.ts';
import type { GuestRecord, RecordStore } from '../../lib/ownership/guest-record.ts';
import {
  type Journal,
  type JournalChange,
  JournalDoubt,
  type JournalEntry,
  openEntries,
} from '../../lib/ownership/journal/journal.ts';
import { decodeRecords } from '../../lib/ownership/journal/record.ts';

/*
 * What the agents of the simulator live in: disks, hypervisors and copies of one guest that are made
 * up, and can fail, hang, lie and come back at every step. Nothing here happens by itself: each
 * operation waits in a queue until the schedule lets it through.
 */

export const GUEST = 'vm1';

/** What an agent waits for from its disk. */
export interface DiskOperation {
  readonly what: string;
  /** Of a journal: all, some or none of it may be there after a crash. */
  readonly record?: JournalEntry;
  /** It is on the disk, whatever the agent hears. */
  readonly happen: () => void;
  readonly done: () => void;
  readonly fail: (error: Error) => void;
}

/** What a hypervisor was told: in the order in which it was told, whoever waits for the answer. */
interface Command {
  readonly what: 'state' | 'suspend' | 'seal' | 'resume' | 'destroy';
  readonly answer: (error: Error | undefined, state: RunState) => void;
}

/** A process; once it is dead nothing that it still waits for comes, and nothing it does happens. */
export interface Mortal {
  readonly dead: boolean;
}

/** A copy of the guest: a process of some hypervisor. */
export class SimulatedCopy {
  readonly id: string;
  readonly host: string;
  /** The copy whose memory it got. */
  readonly origin: SimulatedCopy | undefined;
  readonly commands: Command[] = [];
  state: 'incoming' | 'paused' | 'running' | 'gone';
  complete: boolean;
  ran: boolean;
  /** The agent by whose death it resumes by itself, as QEMU does until it is sealed. */
  resumesWithout: object | undefined;

  constructor(id: string, host: string, origin?: SimulatedCopy) {
    this.id = id;
    this.host = host;
    this.origin = origin;
    this.state = origin === undefined ? 'running' : 'incoming';
    this.complete = origin === undefined;
    this.ran = this.complete;
  }

  toString(): string {
    return `${this.id}@${this.host} ${this.state}`;
  }
}

/** Sees what happens to copies. */
export interface Judge {
  /** Before the guest runs there. */
  mayRun(copy: SimulatedCopy): void;
  /** Before that copy is destroyed. */
  mayGo(copy: SimulatedCopy): void;
}

/** Executes the oldest command of a copy. `outcome`: how it goes, and what its caller hears. */
export function execute(
  copy: SimulatedCopy,
  judge: Judge,
  outcome: 'well' | 'refused' | 'done, but an error is answered' = 'well',
): void {
  const command = copy.commands.shift()!;
  if (copy.state === 'gone') return command.answer(died(copy), 'shut-down');
  if (outcome === 'refused') {
    const code = command.what === 'resume' ? 'not-started' : 'hypervisor-failed';
    return command.answer(new GodwitError(code, 'it was refused'), 'paused');
  }
  if (command.what === 'suspend' && copy.state === 'running') copy.state = 'paused';
  if (command.what === 'seal') copy.resumesWithout = undefined;
  if (command.what === 'resume' && copy.state !== 'running') {
    judge.mayRun(copy);
    copy.state = 'running';
    copy.ran = true;
    copy.resumesWithout = undefined;
  }
  if (command.what === 'destroy') {
    judge.mayGo(copy);
    copy.state = 'gone';
  }
  const error =
    outcome === 'well' ? undefined : new GodwitError('hypervisor-failed', 'no answer came');
  command.answer(error, copy.state as RunState);
}

function died(copy: SimulatedCopy): GodwitError {
  return new GodwitError('guest-died', `${copy.id} is gone`);
}

/** A client of a copy's hypervisor, as an agent has one. */
export function clientOf(
  copy: SimulatedCopy,
  { agent, undoesByItself }: { readonly agent: Mortal; readonly undoesByItself: boolean },
): GuestCopy {
  let closed = false;
  const waiting = new Set<(error: Error) => void>();
  const call = (what: Command['what']) =>
    new Promise<RunState>((resolve, reject) => {
      if (agent.dead) return;
      const over = closed ? new GodwitError('guest-died', 'the client was closed') : undefined;
      if (over) return reject(over);
      waiting.add(reject);
      copy.commands.push({
        what,
        answer: (error, state) => {
          waiting.delete(reject);
          if (what === 'suspend' && copy.state === 'paused' && undoesByItself)
            copy.resumesWithout = agent;
          if (error) reject(error);
          else resolve(what === 'suspend' && state !== 'running' ? 'paused' : state);
        },
      });
    });
  return {
    handle: copy.id,
    state: () => call('state'),
    suspend: (onStop?: () => void) => {
      onStop?.();
      return call('suspend');
    },
    seal: async () => {
      await call('seal');
      return new Uint8Array(0);
    },
    resume: () => call('resume'),
    destroy: async () => void (await call('destroy')),
    suspension: async () => undefined,
    close: () => {
      closed = true;
      for (const reject of waiting) reject(new GodwitError('guest-died', 'the client was closed'));
      waiting.clear();
    },
  } as unknown as GuestCopy;
}

/** What the two agents of a host share: records of guests, and claims that die with their process. */
export class SimulatedHost {
  readonly name: string;
  readonly records = new Map<string, GuestRecord>();
  readonly claims = new Map<string, object>();
  /** Every write fails until it comes back. */
  diskDead = false;

  constructor(name: string) {
    this.name = name;
  }

  /** The records as one process sees them. */
  store(process: Mortal & { readonly disk: DiskOperation[] }): RecordStore {
    return {
      dir: `/host/${this.name}`,
      read: (guest) => this.records.get(guest),
      write: (record) =>
        wait(process.disk, {
          what: `record ${record.migration} epoch ${record.epoch}${record.rest ? ' at rest' : ''}`,
          happen: () => void this.records.set(record.guest, record),
        }),
      take: async (guest) => {
        if (process.dead) return new Promise(() => {});
        if (this.claims.has(guest)) return undefined;
        this.claims.set(guest, process);
        return {
          release: () => {
            if (this.claims.get(guest) === process) this.claims.delete(guest);
          },
        };
      },
      guests: () => [...this.records.keys()],
    };
  }

  /** The kernel frees what a process has claimed. */
  freeClaims(process: object): void {
    for (const [guest, holder] of this.claims) if (holder === process) this.claims.delete(guest);
  }
}

/** A record's fields before anything is known. */
export const BLANK: JournalEntry = {
  ...{ migration: '', state: '', epoch: 1, time: 0, guest: GUEST, hypervisor: 'simulated' },
  ...{ handle: '', peer: '', secret: new Uint8Array(0), code: '', text: '' },
  ...{ held: false, runState: '', seal: new Uint8Array(0) },
};

/** An agent's journal: what survives it. */
export class SimulatedDisk {
  records: JournalEntry[] = [];
  /** What a crash has left of a write. */
  tail: Buffer = Buffer.alloc(0);

  /** As a start of the agent finds it; a torn tail is cut off for good. */
  read(): Map<string, JournalEntry> {
    if (this.tail.length > 0) this.records.push(...decodeRecords(this.tail).records);
    this.tail = Buffer.alloc(0);
    return openEntries(this.records);
  }
}

/** Follows lib/ownership/journal: a record is there, is not, or is in doubt. */
export class SimulatedJournal implements Pick<Journal, 'append'> {
  readonly entries: Map<string, JournalEntry>;
  readonly #disk: SimulatedDisk;
  readonly #queue: DiskOperation[];
  #inDoubt = false;

  constructor(disk: SimulatedDisk, queue: DiskOperation[]) {
    this.#disk = disk;
    this.#queue = queue;
    this.entries = disk.read();
  }

  async append(change: JournalChange): Promise<void> {
    const record = { ...BLANK, ...this.entries.get(change.migration), ...change };
    const next = () => {
      const entries = new Map(this.entries);
      if (record.state === 'ended') entries.delete(record.migration);
      else entries.set(record.migration, record);
      return entries;
    };
    try {
      await wait(this.#queue, {
        what: `journal ${change.state} (${change.epoch})${change.held ? ', held' : ''}`,
        record,
        happen: () => {
          if (this.#inDoubt)
            this.#disk.records = [...next().values()]; // in a new file
          else this.#disk.records.push(record);
        },
      });
    } catch (error) {
      if (error instanceof JournalDoubt) {
        this.#inDoubt = true;
        this.#remember(next());
      }
      throw error;
    }
    this.#inDoubt = false;
    this.#remember(next());
  }

  #remember(entries: Map<string, JournalEntry>): void {
    this.entries.clear();
    for (const [id, entry] of entries) this.entries.set(id, entry);
  }
}

export function wait(
  queue: DiskOperation[],
  operation: Omit<DiskOperation, 'done' | 'fail'>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    queue.push({ ...operation, done: resolve, fail: reject });
  });
}
