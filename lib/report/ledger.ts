import { appendFile, type FileHandle, mkdir, open, readFile, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GodwitError } from '../errors.ts';
import { checkRecord } from './ledger-shape.ts';
import type { EncodingCounts, EndRecord, LedgerRecord, RoundRecord } from './records.ts';

/**
 * Characters that may wait for the disk. A consultation is about 600 of them and comes four times
 * a second, so a disk that stands still for an hour is survived; more would be memory that grows
 * with the time of the migration.
 */
const MAX_PENDING = 8 * 1024 * 1024;

/** Where the ledger of a migration is kept. @throws GodwitError unknown-migration for a bad id */
export function ledgerFile(stateDir: string, id: string): string {
  // The id may come from a command line: it must not lead out of the directory.
  if (!/^[A-Za-z0-9][\w.-]*$/.test(id)) throw unknownMigration(id);
  return join(stateDir, 'ledgers', `${id}.ndjson`);
}

/**
 * Appends records to a ledger in the order given, in the background. The ledger must never hurt
 * the migration it describes: nothing here throws or rejects; the first failure is reported once
 * and what comes after it is dropped.
 */
export class LedgerWriter {
  readonly file: string;
  readonly #onFailure: (error: GodwitError) => void;
  #pending: string[] = [];
  #pendingLength = 0;
  #handle: FileHandle | undefined;
  #writing: Promise<void> | undefined;
  #closed = false;
  #failed = false;

  /** The file (mode 0600, its directory 0700) is created with the first record. */
  constructor(file: string, onFailure: (error: GodwitError) => void) {
    this.file = file;
    this.#onFailure = onFailure;
  }

  /** Queues one record; after `close` or a failure it is dropped. */
  append(record: LedgerRecord): void {
    if (this.#closed) return;
    try {
      this.#enqueue(`${JSON.stringify(record)}\n`);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  /** Resolves when everything appended so far is in the file and the file is closed. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close().catch((cause) => this.#fail(cause));
  }

  #enqueue(line: string): void {
    if (this.#pendingLength + line.length > MAX_PENDING) throw new Error('the disk is too slow');
    this.#pending.push(line);
    this.#pendingLength += line.length;
    this.#writing ??= this.#drain().catch((cause) => this.#fail(cause));
  }

  /** One write at a time keeps the order; what arrives meanwhile goes with the next one. */
  async #drain(): Promise<void> {
    this.#handle ??= await this.#create();
    while (this.#pending.length > 0) {
      const text = this.#pending.join('');
      this.#pending = [];
      this.#pendingLength = 0;
      await this.#handle.appendFile(text);
    }
    this.#writing = undefined;
  }

  async #create(): Promise<FileHandle> {
    await mkdir(dirname(this.file), { recursive: true, mode: 0o700 });
    return open(this.file, 'a', 0o600);
  }

  #fail(cause: unknown): void {
    const first = !this.#failed;
    this.#failed = true;
    this.#closed = true;
    this.#pending = [];
    this.#pendingLength = 0;
    if (!first) return;
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `the ledger ${this.file} cannot be written, the report will be incomplete: ${why}`;
    this.#onFailure(new GodwitError('ledger-failed', message, { cause }));
  }
}

/**
 * Writes the end of a ledger whose agent was interrupted: what was sent is what the finished rounds
 * say. A ledger that has its end is left as it is.
 * @throws GodwitError as `readLedger`
 */
export async function endInterrupted(
  file: string,
  end: Pick<EndRecord, 'outcome' | 'code' | 'message'>,
): Promise<void> {
  const records = await readLedger(file);
  const [start] = records;
  if (start?.type !== 'start' || records.some(({ type }) => type === 'end')) return;
  const rounds = records.filter((record) => record.type === 'round');
  const record: EndRecord = {
    type: 'end',
    at: Date.now() - Date.parse(start.time),
    ...end,
    rounds: rounds.length,
    pages: rounds.reduce((sum, { sentPages }) => sum + sentPages, 0),
    wireBytes: rounds.reduce((sum, { wireBytes }) => sum + wireBytes, 0),
    encodings: sumEncodings(rounds),
  };
  const bytes = await readFile(file);
  await truncate(file, bytes.lastIndexOf('\n') + 1); // the line that was being written
  await appendFile(file, `${JSON.stringify(record)}\n`);
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
    const message = `the ledger ${file} cannot be read: ${(cause as Error).message}`;
    throw new GodwitError('ledger-failed', message, { cause });
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

function invalid(where: string, why: string): GodwitError {
  return new GodwitError('ledger-invalid', `${where}: this is not a migration ledger: ${why}`);
}

function unknownMigration(id: string): GodwitError {
  return new GodwitError('unknown-migration', `there is no migration ${JSON.stringify(id)} here`);
}
