import { appendFile, type FileHandle, mkdir, open, readFile, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GodwitError } from '../errors.ts';
import type { EncodingCounts } from '../pages/counters.ts';
import { within } from '../poll.ts';
import { checkRecord } from './ledger-shape.ts';
import type { EndRecord, LedgerRecord, RoundRecord } from './records.ts';

/**
 * Characters that may wait for the disk. A consultation is about 600 of them and comes four times
 * a second, so a disk that is full or stands still for an hour is survived; more would be memory
 * that grows with the time of the migration.
 */
const MAX_PENDING = 8 * 1024 * 1024;
/** A disk that failed is tried again with the first record after this, ms. */
const RETRY_MS = 5000;
/** A disk that stands still keeps the end of a migration waiting for so long, ms. */
const CLOSE_MS = 5000;

/** Where the ledger of a migration is kept. @throws GodwitError unknown-migration for a bad id */
export function ledgerFile(stateDir: string, id: string): string {
  // The id may come from a command line: it must not lead out of the directory.
  if (!/^[A-Za-z0-9][\w.-]*$/.test(id)) throw unknownMigration(id);
  return join(stateDir, 'ledgers', `${id}.ndjson`);
}

/**
 * Appends records to a ledger in the order given, in the background. The ledger must never hurt
 * the migration it describes: nothing here throws or rejects. The first failure is reported, once;
 * what could not be written waits until the disk takes it, or there is too much of it.
 */
export class LedgerWriter {
  readonly file: string;
  readonly #onFailure: (error: GodwitError) => void;
  #pending: string[] = [];
  #pendingLength = 0;
  #handle: FileHandle | undefined;
  /** Bytes of whole records in the file; what lies behind them was half written. */
  #size = 0;
  #torn = false;
  #writing: Promise<void> | undefined;
  #retryMs = 0;
  #closed = false;
  #failed = false;

  /** The file (mode 0600, its directory 0700) is created with the first record. */
  constructor(file: string, onFailure: (error: GodwitError) => void) {
    this.file = file;
    this.#onFailure = onFailure;
  }

  /** Queues one record; after `close`, or when too many wait, it is dropped. */
  append(record: LedgerRecord): void {
    if (this.#closed) return;
    const line = `${JSON.stringify(record)}\n`;
    if (this.#pendingLength + line.length > MAX_PENDING) {
      this.#closed = true;
      this.#pending = [];
      return this.#fail(new Error('the disk is too slow'));
    }
    this.#pending.push(line);
    this.#pendingLength += line.length;
    if (performance.now() >= this.#retryMs) this.#write();
  }

  /** Resolves when everything appended so far is in the file, or cannot be had there in time. */
  async close(): Promise<void> {
    this.#closed = true;
    const late = () => new Error('the disk stands still');
    await within(CLOSE_MS, this.#finish(), late).catch((cause) => this.#fail(cause));
  }

  async #finish(): Promise<void> {
    await this.#writing;
    if (this.#pending.length > 0) this.#write(); // after a failure: the last attempt
    await this.#writing;
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  /** One write at a time keeps the order; what arrives meanwhile goes with the next one. */
  #write(): void {
    this.#writing ??= this.#drain()
      .catch((cause) => {
        this.#retryMs = performance.now() + RETRY_MS;
        this.#fail(cause);
      })
      .finally(() => {
        this.#writing = undefined;
      });
  }

  async #drain(): Promise<void> {
    this.#handle ??= await this.#open();
    const handle = this.#handle;
    while (this.#pending.length > 0) {
      const lines = this.#pending.length;
      const bytes = Buffer.from(this.#pending.join(''));
      if (this.#torn) await handle.truncate(this.#size);
      this.#torn = true;
      await handle.appendFile(bytes);
      this.#torn = false;
      this.#size += bytes.length;
      for (const { length } of this.#pending.splice(0, lines)) this.#pendingLength -= length;
    }
  }

  async #open(): Promise<FileHandle> {
    await mkdir(dirname(this.file), { recursive: true, mode: 0o700 });
    const handle = await open(this.file, 'a', 0o600);
    this.#size = (await handle.stat()).size;
    return handle;
  }

  #fail(cause: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#onFailure(failed(this.file, 'written, the report may be incomplete', cause));
  }
}

/**
 * Writes the end of a ledger whose agent was interrupted: what was sent is what the finished rounds
 * say. A ledger that has its end is left as it is.
 * @throws GodwitError as `readLedger`, and ledger-failed when it cannot be written
 */
export async function endInterrupted(
  file: string,
  end: Pick<EndRecord, 'outcome' | 'code' | 'message'>,
): Promise<void> {
  const records = await readLedger(file);
  const [start] = records;
  if (start?.type !== 'start' || records.some(({ type }) => type === 'end')) return;
  const rounds = records.filter((record) => record.type === 'round');
  const last = Math.max(...records.map(({ at }) => at));
  const record: EndRecord = {
    type: 'end',
    at: Math.max(last, Date.now() - Date.parse(start.time)), // the clock may have been set back
    ...end,
    rounds: rounds.length,
    pages: rounds.reduce((sum, { sentPages }) => sum + sentPages, 0),
    wireBytes: rounds.reduce((sum, { wireBytes }) => sum + wireBytes, 0),
    encodings: sumEncodings(rounds),
  };
  try {
    const bytes = await readFile(file);
    await truncate(file, bytes.lastIndexOf('\n') + 1); // the line that was being written
    await appendFile(file, `${JSON.stringify(record)}\n`);
  } catch (cause) {
    throw failed(file, 'written', cause);
  }
}

function sumEncodings(rounds: readonly RoundRecord[]): EncodingCounts {
  const sum = { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 };
  for (const { encodings } of rounds)
    for (const name of Object.keys(sum) as (keyof EncodingCounts)[]) sum[name] += encodings[name];
  return sum;
}

/**
 * All records of a ledger file.
 * @throws GodwitError unknown-migration when there is no such file, ledger-failed when it cannot be
 * read, ledger-invalid when it is not a ledger
 */
export async function readLedger(file: string): Promise<LedgerRecord[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
      throw unknownMigration(basename(file, '.ndjson'));
    throw failed(file, 'read', cause);
  }
  return parseLedger(text, file);
}

/**
 * Records of a ledger's text. A last line without its newline may be torn (a crash, or the agent
 * is writing it just now) and is then left out; types of a newer version are skipped.
 * @throws GodwitError ledger-invalid, naming `file` and the line
 */
export function parseLedger(text: string, file = 'ledger'): LedgerRecord[] {
  const lines = text.split('\n');
  const torn = lines.pop() ?? '';
  const records = lines.flatMap((line, index) => parseLine(line, `${file}:${index + 1}`));
  if (torn !== '' && isJson(torn)) records.push(...parseLine(torn, `${file}:${lines.length + 1}`));
  const at = records.findIndex(({ type }) => type === 'start');
  if (at !== 0) throw invalid(`${file}:1`, 'it does not begin with a start record');
  if (records.filter(({ type }) => type === 'start').length > 1)
    throw invalid(file, 'it has more than one start record');
  return records;
}

function parseLine(line: string, where: string): LedgerRecord[] {
  if (line === '') return [];
  if (!isJson(line)) throw invalid(where, 'the line is not JSON');
  const value: unknown = JSON.parse(line);
  const problem = checkRecord(value);
  if (problem === 'unknown-type') return [];
  if (problem !== undefined) throw invalid(where, problem);
  return [value as LedgerRecord];
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function failed(file: string, what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message = `the ledger ${file} cannot be ${what}: ${why}`;
  return new GodwitError('ledger-failed', message, { cause });
}

function invalid(where: string, why: string): GodwitError {
  return new GodwitError('ledger-invalid', `${where}: this is not a migration ledger: ${why}`);
}

function unknownMigration(id: string): GodwitError {
  return new GodwitError('unknown-migration', `there is no migration ${JSON.stringify(id)} here`);
}
