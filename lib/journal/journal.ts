import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, realpath, rename } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { GodwitError } from '../errors.ts';
import type { JournalRecord } from '../wire/messages.ts';
import { decodeRecords, encodeRecord } from './record.ts';

/** A journal that has grown to this is written anew with what is still open. */
const COMPACT_BYTES = 256 * 1024;

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
};

/**
 * An agent's journal: an append-only file of checksummed records, the newest of a migration being
 * the truth about it. A record is durable when `append` resolves, and not in the file when it
 * rejects. One process at a time has it open.
 */
export class Journal {
  readonly #file: string;
  readonly #claim: Server;
  readonly #entries: Map<string, JournalEntry>;
  #handle: FileHandle;
  #size: number;
  #broken: GodwitError | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #appendMs = 0;

  private constructor(file: string, claim: Server, handle: FileHandle, bytes: Buffer) {
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
   * @throws GodwitError journal-failed, journal-invalid
   */
  static async open(dir: string, states: readonly string[]): Promise<Journal> {
    const file = path.join(dir, 'journal');
    let holder: Server | undefined;
    let handle: FileHandle | undefined;
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      holder = await claimDirectory(dir);
      handle = await open(file, 'a+', 0o600);
      const journal = new Journal(file, holder, handle, await handle.readFile());
      for (const entry of journal.open) checkState(entry, states);
      await journal.#compact(); // drops a torn tail with everything else that is over
      return journal;
    } catch (cause) {
      await handle?.close();
      holder?.close();
      if (!(cause instanceof GodwitError)) throw failed(file, 'opened', cause);
      throw new GodwitError(cause.code, `${file}: ${cause.message}`, { cause });
    }
  }

  /** Migrations that are not ended, the oldest first. */
  get open(): readonly JournalEntry[] {
    return [...this.#entries.values()];
  }

  /** How long the last record took to be durable, ms. */
  get appendMs(): number {
    return this.#appendMs;
  }

  entry(migration: string): JournalEntry | undefined {
    return this.#entries.get(migration);
  }

  /**
   * Adds a record; state "ended" closes the migration's entry.
   * @throws GodwitError journal-failed: the record is not in the journal
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
    this.#claim.close();
  }

  async #append(change: JournalChange): Promise<void> {
    if (this.#broken) throw this.#broken;
    const known = this.#entries.get(change.migration);
    const record: JournalRecord = { ...BLANK, ...known, ...change, time: Date.now() };
    const bytes = encodeRecord(record);
    const started = performance.now();
    try {
      await this.#handle.appendFile(bytes);
      await this.#handle.datasync();
    } catch (cause) {
      await this.#takeBack(cause);
    }
    this.#appendMs = performance.now() - started;
    this.#size += bytes.length;
    remember(this.#entries, record);
    if (this.#size > COMPACT_BYTES) await this.#compact().catch(() => {}); // it still holds
  }

  /** A record of which it is not known whether it is there must not be found later. */
  async #takeBack(cause: unknown): Promise<never> {
    try {
      await this.#handle.truncate(this.#size);
      await this.#handle.datasync();
    } catch {
      this.#broken = failed(this.#file, 'written or cut', cause);
    }
    throw failed(this.#file, 'written', cause);
  }

  /** Writes what is open into a new file and puts it in the old one's place. */
  async #compact(): Promise<void> {
    const next = `${this.#file}.new`;
    const bytes = Buffer.concat(this.open.map(encodeRecord));
    const handle = await open(next, 'w', 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    const appending = await open(next, 'a', 0o600);
    await rename(next, this.#file);
    await this.#handle.close();
    this.#handle = appending;
    this.#size = bytes.length;
    await syncDirectory(path.dirname(this.#file)).catch((cause) => {
      // After a power cut the old file could be back, without what is appended from here on.
      this.#broken = failed(this.#file, 'put in place', cause);
    });
  }
}

/** What a sequence of records leaves open: the newest of each migration that is not ended. */
export function openEntries(records: readonly JournalRecord[]): Map<string, JournalEntry> {
  const entries = new Map<string, JournalEntry>();
  for (const record of records) remember(entries, record);
  return entries;
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

/**
 * Two agents with one journal would both finish its migrations. The kernel frees an abstract
 * socket when its process ends, however it ends.
 */
async function claimDirectory(dir: string): Promise<Server> {
  const id = createHash('sha256')
    .update(await realpath(dir))
    .digest('hex');
  const holder = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  holder.once('error', () =>
    reject(new GodwitError('journal-failed', 'another agent uses this state directory')),
  );
  holder.listen(`\0godwit-journal-${id}`, resolve);
  holder.unref();
  await promise;
  return holder;
}

function failed(file: string, what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError('journal-failed', `the journal ${file} cannot be ${what}: ${why}`, {
    cause,
  });
}
