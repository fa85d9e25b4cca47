import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { checkRecord } from './ledger-shape.ts';
import type { EndRecord, LedgerRecord, Outcome, StartRecord, SuspensionRecord } from './records.ts';

/** Ledgers are read at both ends only: a start record is far shorter, and so is what follows the last round. */
const END_BYTES = 64 << 10;

/** A migration that this host has begun, as its ledger tells of it. */
export interface PastMigration {
  readonly id: string;
  readonly guest: string;
  /** When it began, ISO 8601. */
  readonly time: string;
  /** The hosts by name; the destination as it was asked for. Undefined in ledgers of older versions. */
  readonly source: string | undefined;
  readonly destination: string;
  /** Who asked for it. */
  readonly by: string | undefined;
  /** `running`: it is not over; `interrupted`: its agent died, and nothing of it is open any more. */
  readonly outcome: Outcome | 'running' | 'interrupted';
  readonly code: string | undefined;
  readonly message: string | undefined;
  /** How long it took, ms. */
  readonly ms: number | undefined;
  /** Of the last suspension: the guest's own word if it had one, else the agents', ms. */
  readonly suspensionMs: number | undefined;
  readonly limitMs: number | undefined;
  readonly wireBytes: number | undefined;
}

/** Which of them are wanted; what is left out does not matter. */
export interface HistoryFilter {
  /** Begun then or later, ms since 1970. */
  readonly since?: number | undefined;
  readonly guest?: string | undefined;
  readonly outcome?: string | undefined;
  /** The newest ones, so many. */
  readonly limit?: number | undefined;
}

export const HISTORY_OUTCOMES: readonly PastMigration['outcome'][] = [
  ...(['completed', 'aborted', 'cancelled', 'failed', 'needs-resolve'] as const),
  ...(['running', 'interrupted'] as const),
];

/** What is thrown away: nothing, when nothing is said. */
export interface Retention {
  /** Ledgers that were last written to longer ago, ms. */
  readonly keepMs: number | undefined;
  /** The oldest ones of more than so many bytes. */
  readonly keepBytes: number | undefined;
}

interface Found {
  readonly id: string;
  readonly file: string;
  /** When it was last written to, ms since 1970. */
  readonly at: number;
  readonly bytes: number;
}

/**
 * Migrations that have a ledger in the state directory, the newest first. Ledgers that cannot be read
 * are left out.
 * @param isOpen whether the migration is not over
 */
export async function history(
  stateDir: string,
  isOpen: (id: string) => boolean,
  { since = 0, guest, outcome, limit = Number.POSITIVE_INFINITY }: HistoryFilter = {},
): Promise<PastMigration[]> {
  const past: PastMigration[] = [];
  for (const { id, file, at } of await ledgersIn(stateDir)) {
    if (at < since) continue; // it has ended before
    const one = await read(file, isOpen(id)).catch(() => undefined);
    if (one === undefined || Date.parse(one.time) < since) continue;
    if (guest !== undefined && one.guest !== guest) continue;
    if (outcome === undefined || one.outcome === outcome) past.push(one);
  }
  return past.sort((a, b) => Date.parse(b.time) - Date.parse(a.time)).slice(0, limit);
}

/**
 * Removes ledgers by age and by size, never of a migration that is not over.
 * @returns ids of the migrations whose ledgers are gone
 */
export async function pruneLedgers(
  stateDir: string,
  isOpen: (id: string) => boolean,
  { keepMs = Number.POSITIVE_INFINITY, keepBytes = Number.POSITIVE_INFINITY }: Retention,
  now: number,
): Promise<string[]> {
  const removed: string[] = [];
  let bytes = 0;
  for (const ledger of (await ledgersIn(stateDir)).sort((a, b) => b.at - a.at)) {
    bytes += ledger.bytes;
    if (isOpen(ledger.id) || (now - ledger.at <= keepMs && bytes <= keepBytes)) continue;
    await rm(ledger.file, { force: true });
    removed.push(ledger.id);
    bytes -= ledger.bytes;
  }
  return removed;
}

/** Ids of all ledgers, in no order. */
export async function ledgerIds(stateDir: string): Promise<string[]> {
  const names = await readdir(path.join(stateDir, 'ledgers')).catch(() => []);
  return names.flatMap((name) => /^(.+)\.ndjson$/.exec(name)?.[1] ?? []);
}

async function ledgersIn(stateDir: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const id of await ledgerIds(stateDir)) {
    const file = path.join(stateDir, 'ledgers', `${id}.ndjson`);
    const stats = await stat(file).catch(() => undefined);
    if (stats?.isFile()) found.push({ id, file, at: stats.mtimeMs, bytes: stats.size });
  }
  return found;
}

async function read(file: string, isOpen: boolean): Promise<PastMigration | undefined> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const start = recordsIn(await piece(handle, 0, size))[0];
    if (start?.type !== 'start') return undefined;
    const last = recordsIn(await piece(handle, Math.max(0, size - END_BYTES), size));
    return pastOf(start, last, isOpen);
  } finally {
    await handle.close();
  }
}

function pastOf(start: StartRecord, last: readonly LedgerRecord[], isOpen: boolean): PastMigration {
  const end = last.findLast((record): record is EndRecord => record.type === 'end');
  const suspension = last.findLast(
    (record): record is SuspensionRecord => record.type === 'suspension',
  );
  const { id, guest, time, source, destination, by } = start;
  return {
    ...{ id, guest, time, source, destination, by },
    outcome: end?.outcome ?? (isOpen ? 'running' : 'interrupted'),
    code: end?.code,
    message: end?.message,
    ms: end?.at,
    suspensionMs: suspension && (suspension.guestMs ?? suspension.agentMs),
    limitMs: suspension?.limitMs,
    wireBytes: end?.wireBytes,
  };
}

async function piece(handle: FileHandle, from: number, size: number): Promise<string> {
  const bytes = Buffer.alloc(Math.min(END_BYTES, size - from));
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, from);
  return bytes.toString('utf8', 0, bytesRead);
}

/** Whole records in a piece of a ledger: what is cut off at its ends is none. */
function recordsIn(text: string): LedgerRecord[] {
  return text.split('\n').flatMap((line) => {
    try {
      const value: unknown = JSON.parse(line);
      return checkRecord(value) === undefined ? [value as LedgerRecord] : [];
    } catch {
      return [];
    }
  });
}
