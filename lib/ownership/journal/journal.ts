import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { Claim } from '../../claim.ts';
import { makeDirectory } from '../../directory.ts';
import { GodwitError } from '../../errors.ts';
import { replaceFile } from '../../replace-file.ts';
import type { JournalRecord } from '../../wire/messages.ts';
import { decodeRecords, encodeRecord } from './record.ts';

/** A journal that has grown to this is written anew with what is still open. */
const COMPACT_BYTES = 256 * 1024;
/** About what a record has, bytes. */
const TYPICAL_RECORD = 256;
/** Tries of which the middle one counts: the first may have to wait for what others have written. */
const TRIES = 3;

/** What the journal knows of a migration that is not ended: the newest of each field. */
export type JournalEntry = JournalRecord;

/** What changes with a record; fields that are left out keep their last value. */
export type JournalChange = Pick<JournalRecord, 'migration' | 'state' | 'epoch'> &
  Partial<JournalRecord>;

const BLANK: Omit<JournalRecord, 'migration' | 'state' | 'epoch' | 'time'> = {
  guest: '',
  hypervisor: '',
  handle: '',
  peer: '',
  secret: new Uint8Array(0),
  code: '',
  text: '',
  held: false,
  runState: '',
  seal: new Uint8Array(0),
};

/** A record of which nobody can tell whether a restart will find it: it may decide nothing. */
export class JournalDoubt extends GodwitError {
  constructor(message: string, cause: unknown) {
    super('journal-failed', message, { cause });
  }
}

/**
 * An agent's journal: an append-only file of checksummed records, the newest of a migration being
 * the truth about it. A record is durable when `append` resolves, and not in the file when it
 * rejects, unless it rejects with a JournalDoubt. One process at a time has it open.
 */
export class Journal {
  readonly #file: string;
  readonly #claim: Claim;
  readonly #entries: Map<string, JournalEntry>;
  #handle: FileHandle;
  #size: number;
  /** The file holds what nobody knows: it is written anew before anything is added. */
  #inDoubt = false;
  #tail: Promise<unknown> = Promise.resolve();
  #appendMs = 0;

  private constructor(file: string, claim: Claim, handle: FileHandle, bytes: Buffer) {
    const { records, end } = decodeRecords(bytes);
    this.#file = file;
    this.#claim = claim;
    this.#entries = openEntries(records);
    this.#handle = handle;
    this.#size = end;
  }

  /**
   * Opens or creates the journal in the directory; a torn tail is cut off.
   * @param states that the reader knows: what another one means cannot be guessed
   * @throws GodwitError journal-failed, journal-invalid, claim-failed
   */
  static async open(dir: string, states: readonly string[]): Promise<Journal> {
    const file = path.join(dir, 'journal');
    let claim: Claim | undefined;
    let handle: FileHandle | undefined;
    try {
      makeDirectory(dir);
      claim = await claimDirectory(dir);
      handle = await open(file, 'a+', 0o600);
      const journal = new Journal(file, claim, handle, await handle.readFile());
      for (const entry of journal.open) checkState(entry, states);
      await journal.#dropTornTail();
      return journal;
    } catch (cause) {
      await handle?.close();
      claim?.release();
      if (!(cause instanceof GodwitError)) throw failed(file, 'opened', cause);
      throw new GodwitError(cause.code, `${file}: ${cause.message}`, { cause });
    }
  }

  /**
   * Whether `open` and `identify` would take what is in the directory, as far as looking shows.
   * @throws GodwitError journal-invalid, journal-failed
   */
  static inspect(dir: string, states: readonly string[], records: string | undefined): void {
    const [file, identity] = [path.join(dir, 'journal'), path.join(dir, 'identity')];
    try {
      const { records: known } = decodeRecords(
        existsSync(file) ? readFileSync(file) : Buffer.alloc(0),
      );
      for (const entry of openEntries(known).values()) checkState(entry, states);
    } catch (cause) {
      if (!(cause instanceof GodwitError)) throw failed(file, 'read', cause);
      throw new GodwitError(cause.code, `${file}: ${cause.message}`, { cause });
    }
    if (records !== undefined && existsSync(identity)) identityOf(identity, records);
  }

  /** Migrations that are not ended, the oldest first. */
  get open(): readonly JournalEntry[] {
    return [...this.#entries.values()];
  }

  /**
   * Tells this journal from every other one, and that it belongs to those records of guests.
   * @param records id of the host's records
   * @throws GodwitError journal-invalid when it was kept with other records, or by an older version
   */
  async identify(records: string): Promise<string> {
    const file = path.join(path.dirname(this.#file), 'identity');
    if (existsSync(file)) return identityOf(file, records);
    if (this.#entries.size > 0) throw olderVersion(this.#file);
    const journal = randomUUID();
    await replaceFile(file, `${JSON.stringify({ journal, records })}\n`).catch((cause) => {
      throw failed(file, 'written', cause);
    });
    return journal;
  }

  /** How long the last record took to be durable, ms. */
  get appendMs(): number {
    return this.#appendMs;
  }

  /**
   * How long a record would take to be durable now, ms: tried with a file beside the journal, which
   * is gone afterwards. @throws GodwitError journal-failed
   */
  async measure(): Promise<number> {
    const file = `${this.#file}.measured`;
    let handle: FileHandle | undefined;
    try {
      handle = await open(file, 'w', 0o600);
      const took: number[] = [];
      while (took.length < TRIES) {
        const started = performance.now();
        await handle.appendFile(Buffer.alloc(TYPICAL_RECORD));
        await handle.datasync();
        took.push(performance.now() - started);
      }
      return took.sort((a, b) => a - b)[TRIES >> 1]!;
    } catch (cause) {
      throw failed(file, 'written', cause);
    } finally {
      await handle?.close().catch(() => {});
      await rm(file, { force: true }).catch(() => {});
    }
  }

  entry(migration: string): JournalEntry | undefined {
    return this.#entries.get(migration);
  }

  /**
   * Adds a record; state "ended" closes the migration's entry.
   * @throws GodwitError journal-failed: the record is not in the journal; JournalDoubt: it may be
   */
  append(change: JournalChange): Promise<void> {
    const done = this.#tail.then(() => this.#append(change));
    this.#tail = done.catch(() => {});
    return done;
  }

  /** Adds to what is known of an open migration without moving it on; nothing when it has ended. */
  note(migration: string, known: Partial<JournalRecord>): Promise<void> {
    const done = this.#tail.then(() => {
      const entry = this.#entries.get(migration);
      return entry && this.#append({ ...entry, ...known });
    });
    this.#tail = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    await this.#tail;
    await this.#handle.close();
    this.#claim.release();
  }

  async #append(change: JournalChange): Promise<void> {
    const known = this.#entries.get(change.migration);
    const record: JournalRecord = { ...BLANK, ...known, ...change, time: Date.now() };
    const bytes = encodeRecord(record);
    const started = performance.now();
    if (this.#inDoubt) {
      await this.#rewrite(record);
      return;
    }
    try {
      await this.#handle.appendFile(bytes);
      await this.#handle.datasync();
    } catch (cause) {
      await this.#takeBack(record, cause);
    }
    this.#appendMs = performance.now() - started;
    this.#size += bytes.length;
    remember(this.#entries, record);
    if (this.#size > COMPACT_BYTES) await this.#compact().catch(() => {}); // it still holds
  }

  /**
   * A record of which it is not known whether it is there must not be found later. When it cannot be
   * cut off either, it counts as there, and the next record goes into a new file: after a failed
   * sync a later one proves nothing about the old.
   */
  async #takeBack(record: JournalRecord, cause: unknown): Promise<never> {
    try {
      await this.#handle.truncate(this.#size);
      await this.#handle.datasync();
    } catch {
      this.#inDoubt = true;
      remember(this.#entries, record);
      throw new JournalDoubt(failed(this.#file, 'written or cut', cause).message, cause);
    }
    throw failed(this.#file, 'written', cause);
  }

  /** After a doubt: everything that is open, with this record, in a file of which all is known. */
  async #rewrite(record: JournalRecord): Promise<void> {
    const entries = new Map(this.#entries);
    remember(entries, record);
    try {
      await this.#compact(entries);
    } catch (cause) {
      // The new file may have taken the old one's place.
      remember(this.#entries, record);
      throw new JournalDoubt(failed(this.#file, 'written anew', cause).message, cause);
    }
    remember(this.#entries, record);
    this.#inDoubt = false;
  }

  /** Needs no room on the disk: a full one must not keep an agent from its suspended guests. */
  async #dropTornTail(): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size > this.#size) {
      await this.#handle.truncate(this.#size);
      await this.#handle.datasync();
    }
    await this.#compact().catch(() => {}); // what is over stays in it a while longer
  }

  /** Writes what is open into a new file and puts it in the old one's place. */
  async #compact(entries: ReadonlyMap<string, JournalEntry> = this.#entries): Promise<void> {
    const next = `${this.#file}.new`;
    const bytes = Buffer.concat([...entries.values()].map(encodeRecord));
    const handle = await open(next, 'w', 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    const appending = await open(next, 'a', 0o600);
    try {
      await rename(next, this.#file);
    } catch (cause) {
      await appending.close(); // it is tried again and again while the disk is bad
      throw cause;
    }
    const old = this.#handle;
    this.#handle = appending;
    await old.close().catch(() => {}); // nothing in it counts any more
    this.#size = bytes.length;
    try {
      await syncDirectory(path.dirname(this.#file));
    } catch (cause) {
      // After a power cut the old file could be back, without what is appended from here on.
      this.#inDoubt = true;
      throw cause;
    }
  }
}

/** What a sequence of records leaves open: the newest of each migration that is not ended. */
export function openEntries(records: readonly JournalRecord[]): Map<string, JournalEntry> {
  const entries = new Map<string, JournalEntry>();
  for (const record of records) remember(entries, record);
  return entries;
}

function identityOf(file: string, records: string): string {
  let known: { journal?: unknown; records?: unknown } = {};
  try {
    known = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw failed(file, 'read', cause);
  }
  if (typeof known.journal !== 'string')
    throw new GodwitError('journal-invalid', `${file} is damaged: restore it`);
  if (known.records === records) return known.journal;
  const why = `${path.dirname(file)} was used with other records of who has each guest: start the agent with the --host-dir that it had`;
  throw new GodwitError('journal-invalid', why);
}

function olderVersion(file: string): GodwitError {
  const why = `${file} has open migrations of an older version, which this one cannot finish: finish them with that version, or settle them by hand and move the file away`;
  return new GodwitError('journal-invalid', why);
}

function checkState({ migration, state }: JournalEntry, states: readonly string[]): void {
  if (states.includes(state)) return;
  throw new GodwitError(
    'journal-invalid',
    `migration ${migration} is in state "${state}", which this version does not know: is it the journal of another agent or version?`,
  );
}

function remember(entries: Map<string, JournalEntry>, record: JournalRecord): void {
  if (record.state === 'ended') entries.delete(record.migration);
  else entries.set(record.migration, record);
}

/** A rename is durable when its directory is. */
async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Two agents with one journal would both finish its migrations. */
async function claimDirectory(dir: string): Promise<Claim> {
  const claim = await Claim.take(path.join(dir, 'lock'));
  if (claim !== undefined) return claim;
  throw new GodwitError('journal-failed', 'another agent uses this state directory');
}

function failed(file: string, what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError('journal-failed', `the journal ${file} cannot be ${what}: ${why}`, {
    cause,
  });
}
