import type { Claim } from '../claim.ts';
import { GodwitError } from '../errors.ts';

/** Who has the right to act on a guest's copy on this host: the newest decision about it. */
export interface GuestRecord {
  /** Its name on this host. */
  readonly guest: string;
  /** By which it is the same guest under another name, with dashes; undefined for guests that have none. */
  readonly uuid?: string | undefined;
  /** Only grows, over all migrations of the guest, in and out. */
  readonly epoch: number;
  readonly migration: string;
  readonly side: 'source' | 'destination';
  /** The journal that has the migration, and where it lay. */
  readonly journal: string;
  readonly stateDir: string;
  /** Nothing of it is left to be done to the copy: another migration may begin. */
  readonly rest: boolean;
}

/** Whose records they are when this agent writes them. */
export interface RecordHolder {
  readonly side: GuestRecord['side'];
  /** Id of the agent's journal. */
  readonly journal: string;
  readonly stateDir: string;
}

/** One migration's right to act on the copy of its guest here; it lasts until a newer one begins. */
export interface Tenure {
  readonly epoch: number;
  /** Whether no newer migration of the guest has begun on this host. */
  readonly owns: boolean;
  /**
   * Makes sure of the right before the copy is touched: false when it is lost for good.
   * @throws GodwitError guest-busy while somebody else is about to act; journal-invalid, journal-failed
   *   while the record cannot be read: nobody can tell
   */
  hold(): Promise<boolean>;
  /** A later decision of this migration. @throws GodwitError journal-failed */
  raise(epoch: number): Promise<void>;
  /** Nothing is left to be done to the copy. @throws GodwitError journal-failed */
  rest(): Promise<void>;
  /** The agent stops: the kernel would free the claim, and the record stays as it is. */
  leave(): void;
}

/** Where records are kept. */
export interface RecordStore {
  readonly dir: string;
  /** @throws GodwitError journal-invalid */
  read(guest: string): GuestRecord | undefined;
  /** Durable, and in one step: a reader finds the old record or this one. @throws GodwitError journal-failed */
  write(record: GuestRecord): Promise<void>;
  /** The right to change it; undefined while somebody else has it. */
  take(guest: string): Promise<Pick<Claim, 'release'> | undefined>;
  guests(): readonly string[];
}

/**
 * The records of a host, shared by its two agents. Whoever acts on a copy holds the guest's claim, and
 * a record can only be changed by who holds it.
 */
export class GuestRecords {
  readonly #store: RecordStore;
  readonly #holder: RecordHolder;
  readonly #isOpen: (migration: string) => boolean;
  /** Guests that are lent, and for what. */
  readonly #lent = new Map<string, string>();

  /** @param isOpen whether a migration is open in the holder's journal */
  constructor(store: RecordStore, holder: RecordHolder, isOpen: (migration: string) => boolean) {
    this.#store = store;
    this.#holder = holder;
    this.#isOpen = isOpen;
  }

  /**
   * Begins a migration of the guest: from here on no older one acts, and no other can begin, under
   * whatever name the guest was here.
   * @param atLeast the epoch that the other side has chosen
   * @param uuid of a guest that may be given another name
   * @throws GodwitError guest-busy, naming what has it; journal-failed
   */
  async claim(guest: string, migration: string, atLeast = 1, uuid?: string): Promise<Tenure> {
    const [claim, record] = await this.#take(guest, migration);
    const others: Pick<Claim, 'release'>[] = [];
    try {
      let last = record?.epoch ?? 0;
      // Held until the new record is there: nobody is about to act by one of them.
      for (const { guest: name } of namesakes(this.#store, guest, uuid)) {
        const [other, found] = await this.#take(name, migration);
        others.push(other);
        last = Math.max(last, found?.epoch ?? 0);
      }
      const epoch = Math.max(last + 1, atLeast);
      const next = { guest, uuid, epoch, migration, ...this.#holder, rest: false };
      await this.#store.write(next);
      const tenure = new RecordTenure(this.#store, next, claim);
      await this.#requireAlone(next, tenure);
      return tenure;
    } catch (error) {
      claim.release();
      throw error;
    } finally {
      for (const other of others) other.release();
    }
  }

  /** Of two that begin at once under different names neither does. @throws GodwitError guest-busy */
  async #requireAlone({ guest, uuid }: GuestRecord, tenure: Tenure): Promise<void> {
    const other = namesakes(this.#store, guest, uuid).find((record) => !this.#isFree(record));
    if (other === undefined) return;
    await tenure.rest();
    throw busy(guest, other);
  }

  /**
   * Keeps the guest from being migrated for as long as something else is done to it. No record says
   * so: it changes nothing about who has the guest, and the kernel ends it with this process.
   * @param what is done, as it follows "guest NAME is being"
   * @returns gives it back
   * @throws GodwitError guest-busy, naming what has it
   */
  async lend(guest: string, what: string): Promise<() => void> {
    const [claim] = await this.#take(guest);
    this.#lent.set(guest, what);
    return () => {
      this.#lent.delete(guest);
      claim.release();
    };
  }

  /** The claim of a guest that no migration has, and its last record. */
  async #take(
    guest: string,
    migration?: string,
  ): Promise<[Pick<Claim, 'release'>, GuestRecord | undefined]> {
    const claim = await this.#store.take(guest);
    if (claim === undefined) {
      const what = this.#lent.get(guest);
      if (what !== undefined)
        throw new GodwitError('guest-busy', `guest ${guest} is being ${what}`);
      throw taken(guest, migration, tryRead(this.#store, guest));
    }
    try {
      return [claim, this.requireFree(guest)];
    } catch (error) {
      claim.release();
      throw error;
    }
  }

  /**
   * Whether a migration of the guest could begin: what `claim` asks first, without a claim.
   * @returns the record of the last one
   * @throws GodwitError guest-busy, naming the migration that has it; journal-invalid
   */
  requireFree(guest: string): GuestRecord | undefined {
    const record = this.#store.read(guest);
    if (record !== undefined && !this.#isFree(record)) throw busy(guest, record);
    return record;
  }

  /** Nothing is left to be done to the guest's copy here. A record that cannot be read says no. */
  rests(guest: string): boolean {
    try {
      return this.#store.read(guest)?.rest ?? true;
    } catch {
      return false;
    }
  }

  /** What an earlier run of this agent had begun, as its journal has it. */
  recovered(guest: string, migration: string, epoch: number): Tenure {
    return new RecordTenure(this.#store, { guest, epoch, migration, ...this.#holder, rest: true });
  }

  /**
   * Lets go of what this agent had claimed and never written into its journal, because it was killed
   * or the disk failed: nothing was done to the copy. To be called at the start, and now and then.
   */
  async sweep(): Promise<void> {
    for (const guest of this.#store.guests()) {
      const record = tryRead(this.#store, guest);
      if (record === undefined || record.rest || !this.#isFree(record)) continue;
      const tenure = new RecordTenure(this.#store, record);
      await tenure.rest().catch(() => tenure.leave()); // later, then
    }
  }

  #isFree({ rest, journal, migration }: GuestRecord): boolean {
    return rest || (journal === this.#holder.journal && !this.#isOpen(migration));
  }
}

class RecordTenure implements Tenure {
  readonly #store: RecordStore;
  #record: GuestRecord;
  #claim: Pick<Claim, 'release'> | undefined;

  constructor(store: RecordStore, record: GuestRecord, claim?: Pick<Claim, 'release'>) {
    this.#store = store;
    this.#record = record;
    this.#claim = claim;
  }

  get epoch(): number {
    return this.#record.epoch;
  }

  get owns(): boolean {
    try {
      return this.#claim !== undefined || this.#isNewest();
    } catch {
      return false; // it decides nothing; `hold` says why
    }
  }

  async hold(): Promise<boolean> {
    if (this.#claim !== undefined) return true;
    if (!this.#isNewest()) return false;
    const { guest } = this.#record;
    const claim = await this.#store.take(guest);
    try {
      const isNewest = this.#isNewest(); // somebody may have begun meanwhile
      if (isNewest && claim === undefined) throw busy(guest, tryRead(this.#store, guest));
      if (!isNewest || claim === undefined) return release(claim);
      const found = this.#store.read(guest); // a journal does not have all of it
      const epoch = Math.max(this.#record.epoch, found?.epoch ?? 0);
      this.#record = { ...this.#record, epoch, uuid: found?.uuid };
      this.#claim = claim;
      return true;
    } catch (error) {
      release(claim);
      throw error;
    }
  }

  raise(epoch: number): Promise<void> {
    return this.#write({ epoch: Math.max(epoch, this.#record.epoch), rest: false });
  }

  async rest(): Promise<void> {
    await this.#write({ rest: true });
    this.leave();
  }

  leave(): void {
    this.#claim?.release();
    this.#claim = undefined;
  }

  async #write(change: Partial<GuestRecord>): Promise<void> {
    if (!(await this.hold())) return;
    const next = { ...this.#record, ...change };
    await this.#store.write(next);
    this.#record = next;
  }

  /** Where there is no record, nobody has begun anything. @throws GodwitError when it cannot be read */
  #isNewest(): boolean {
    const { guest, migration } = this.#record;
    const found = this.#store.read(guest);
    if (found === undefined) return true;
    const later = namesakes(this.#store, guest, found.uuid).some(
      ({ epoch }) => epoch > found.epoch,
    );
    return found.migration === migration && !later;
  }
}

/** Records of the same guest, of when it had another name here. One that cannot be read is nobody's. */
function namesakes(store: RecordStore, guest: string, uuid: string | undefined): GuestRecord[] {
  if (uuid === undefined) return [];
  const records = store.guests().map((name) => tryRead(store, name));
  return records.filter(
    (record) => record?.uuid === uuid && record.guest !== guest,
  ) as GuestRecord[];
}

function release(claim: Pick<Claim, 'release'> | undefined): false {
  claim?.release();
  return false;
}

function tryRead(store: RecordStore, guest: string): GuestRecord | undefined {
  try {
    return store.read(guest);
  } catch {
    return undefined; // said by whoever acts on it
  }
}

/** A host that offers a guest to itself finds its own claim. */
function taken(
  guest: string,
  migration: string | undefined,
  record: GuestRecord | undefined,
): GodwitError {
  if (record === undefined || record.migration !== migration) return busy(guest, record);
  const text = `guest ${guest} is on this very host: agents of another host have another --host-dir`;
  return new GodwitError('guest-exists', text);
}

function busy(guest: string, record: GuestRecord | undefined): GodwitError {
  if (record === undefined || record.rest)
    return new GodwitError('guest-busy', `guest ${guest} is being migrated or profiled already`);
  const agent = record.side === 'source' ? 'agent-send' : 'agent-recv';
  const text = `guest ${guest} is being migrated already: migration ${record.migration} of ${agent} (${record.stateDir}) is not through with it`;
  return new GodwitError('guest-busy', text);
}
