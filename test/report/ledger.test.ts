import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { GodwitError } from '../../lib/errors.ts';
import {
  endInterrupted,
  LedgerWriter,
  ledgerFile,
  parseLedger,
  readLedger,
} from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { busyGuest, FIXTURES } from './fixtures.ts';

let dir: string;
const disks: string[] = [];
/** Only root has disks of its own. */
const root = process.getuid?.() === 0;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'godwit-ledger-'));
});
afterEach(async () => {
  for (const disk of disks.splice(0)) execFileSync('umount', [disk]);
  await rm(dir, { recursive: true });
});

/** A file system of 64 KiB of the test's own. */
async function smallDisk(): Promise<string> {
  const disk = join(dir, 'disk');
  await mkdir(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
  disks.push(disk);
  return disk;
}

function text(records: readonly LedgerRecord[]): string {
  return records.map((record) => `${JSON.stringify(record)}\n`).join('');
}

/** As a record comes back: JSON has no `undefined`. */
function stored(records: readonly LedgerRecord[]): unknown {
  return JSON.parse(JSON.stringify(records));
}

async function written(file: string, records: readonly LedgerRecord[]): Promise<GodwitError[]> {
  const failures: GodwitError[] = [];
  const ledger = new LedgerWriter(file, (error) => failures.push(error));
  for (const record of records) ledger.append(record);
  await ledger.close();
  return failures;
}

/** Takes all the room that there is; returns the file that has it. */
function fill(disk: string): string {
  const ballast = join(disk, 'ballast');
  spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4k']);
  return ballast;
}

describe('writing', () => {
  test('what was appended comes back in order, from a file only its owner can read', async () => {
    const file = ledgerFile(dir, 'm-1');
    const records = busyGuest();
    expect(await written(file, records)).toEqual([]);
    expect(await readLedger(file)).toEqual(stored(records));
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test('records appended while a write is under way follow it', async () => {
    const file = ledgerFile(dir, 'm-1');
    const records = busyGuest();
    const ledger = new LedgerWriter(file, (error) => expect.unreachable(error.message));
    for (const record of records) {
      ledger.append(record);
      await Promise.resolve();
    }
    await ledger.close();
    expect(await readLedger(file)).toEqual(stored(records));
  });

  test('a ledger is continued, not overwritten', async () => {
    const file = ledgerFile(dir, 'm-1');
    const records = busyGuest();
    await written(file, records.slice(0, 3));
    await written(file, records.slice(3));
    expect(await readLedger(file)).toEqual(stored(records));
  });

  test('a failure is reported once and nothing throws', async () => {
    await writeFile(join(dir, 'ledgers'), 'a file where the directory should be');
    const failures = await written(ledgerFile(dir, 'm-1'), busyGuest());
    expect(failures.map(({ code }) => code)).toEqual(['ledger-failed']);
    expect(failures[0]!.message).toContain('m-1.ndjson cannot be written');
  });

  test('a full disk in the middle keeps what was written before', async () => {
    // Writes to /dev/full fail with ENOSPC, after it could be opened.
    const failures = await written('/dev/full', busyGuest());
    expect(failures.map(({ code }) => code)).toEqual(['ledger-failed']);
    expect(failures[0]!.message).toContain('ENOSPC');
  });

  describe.runIf(root)('on a disk', () => {
    test('that is full from the start: one report, and everything else goes on', async () => {
      const disk = await smallDisk();
      fill(disk);
      const file = ledgerFile(disk, 'm-1');
      const failures = await written(file, busyGuest());
      expect(failures.map(({ code }) => code)).toEqual(['ledger-failed']);
      expect(failures[0]!.message).toContain('ENOSPC');
    });

    test('that is full in the middle: what is there can be read', async () => {
      const file = ledgerFile(await smallDisk(), 'm-1');
      const records = busyGuest();
      const long = { type: 'note', at: 1, text: 'x'.repeat(10_000) } as const;
      const failures: GodwitError[] = [];
      const ledger = new LedgerWriter(file, (error) => failures.push(error));
      ledger.append(records[0]!);
      for (let n = 0; n < 20; n++) {
        ledger.append(long);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await ledger.close();
      expect(failures).toHaveLength(1);
      const found = await readLedger(file);
      expect(found.length).toBeGreaterThan(1);
      expect(found).toEqual([stored(records.slice(0, 1)), found.slice(1).map(() => long)].flat());
    });

    test.each([
      ['from the start', 0],
      ['in the middle', 3],
    ] as const)('that is full %s and gets room again: nothing is missing', async (_, there) => {
      const disk = await smallDisk();
      const file = ledgerFile(disk, 'm-1');
      const records = busyGuest().slice(0, 12);
      const { promise: failed, resolve: onFailure } = Promise.withResolvers<GodwitError>();
      const ledger = new LedgerWriter(file, onFailure);
      for (const record of records.slice(0, there)) ledger.append(record);
      if (there > 0) await expect.poll(() => readLedger(file).catch(() => [])).toHaveLength(there);
      const ballast = fill(disk);
      // Longer than what is left in the last page of the file.
      for (const record of records.slice(there)) ledger.append(record);
      for (let n = 0; n < 2; n++) ledger.append({ type: 'note', at: 9, text: 'x'.repeat(5000) });
      expect((await failed).code).toBe('ledger-failed');
      rmSync(ballast);
      await ledger.close();
      const found = await readLedger(file);
      expect(found.slice(0, 12)).toEqual(stored(records));
      expect(found).toHaveLength(14);
    });
  });

  test('a disk that stands still does not keep the end waiting', async () => {
    const pipe = join(dir, 'pipe'); // opening it waits for a reader that never comes
    execFileSync('mkfifo', [pipe]);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const failures: GodwitError[] = [];
    const ledger = new LedgerWriter(pipe, (error) => failures.push(error));
    ledger.append(busyGuest()[0]!);
    const closed = ledger.close();
    await vi.advanceTimersByTimeAsync(5000);
    await closed;
    expect(failures[0]!.message).toContain('the disk stands still');
    await readFile(pipe, 'utf8'); // lets the opening go
  });

  test('appending after close is dropped', async () => {
    const file = ledgerFile(dir, 'm-1');
    const ledger = new LedgerWriter(file, (error) => expect.unreachable(error.message));
    ledger.append(busyGuest()[0]!);
    await ledger.close();
    ledger.append({ type: 'note', at: 1, text: 'too late' });
    await ledger.close();
    expect(await readFile(file, 'utf8')).not.toContain('too late');
  });

  test('records that wait for a disk that stands still are bounded', async () => {
    const failures: GodwitError[] = [];
    const ledger = new LedgerWriter(ledgerFile(dir, 'm-1'), (error) => failures.push(error));
    const long = 'x'.repeat(1024 * 1024);
    for (let i = 0; i < 20; i++) ledger.append({ type: 'note', at: i, text: long });
    await ledger.close();
    expect(failures.map(({ message }) => message)).toEqual([
      expect.stringContaining('the disk is too slow'),
    ]);
  });
});

describe('the end of an interrupted ledger', () => {
  const END = { outcome: 'failed', code: 'interrupted', message: 'interrupted' } as const;

  test('goes behind the last whole line, and only once', async () => {
    const file = join(dir, 'm-1.ndjson');
    const records = busyGuest().slice(0, 6);
    await writeFile(file, `${text(records)}{"type":"no`);
    await endInterrupted(file, END);
    await endInterrupted(file, END);
    const found = await readLedger(file);
    expect(found).toHaveLength(7);
    expect(found.at(-1)).toMatchObject({ type: 'end', ...END });
  });

  test('is not before what happened, wherever the clock has been set', async () => {
    const file = join(dir, 'm-1.ndjson');
    const [start, ...rest] = busyGuest().slice(0, 6);
    const future = { ...start!, time: new Date(Date.now() + 3_600_000).toISOString() };
    await writeFile(file, text([future as LedgerRecord, ...rest]));
    await endInterrupted(file, END);
    expect((await readLedger(file)).at(-1)!.at).toBe(Math.max(...rest.map(({ at }) => at)));
  });

  test.runIf(root)('that cannot be written is told in a sentence', async () => {
    const disk = await smallDisk();
    const file = join(disk, 'm-1.ndjson');
    await writeFile(file, text(busyGuest().slice(0, 6)));
    execFileSync('mount', ['-o', 'remount,ro', disk]);
    await expect(endInterrupted(file, END)).rejects.toMatchObject({
      code: 'ledger-failed',
      message: expect.stringMatching(/m-1\.ndjson cannot be written: EROFS/),
    });
  });
});

describe('reading', () => {
  test('a torn last line is left out, wherever it was torn', () => {
    const records = busyGuest().slice(0, 4);
    const whole = text(records);
    const last = whole.lastIndexOf('\n', whole.length - 2) + 1;
    for (let length = last; length < whole.length - 1; length++)
      expect(parseLedger(whole.slice(0, length))).toEqual(stored(records.slice(0, 3)));
    expect(parseLedger(whole.slice(0, -1))).toEqual(stored(records));
  });

  test('types of a later version are skipped', () => {
    const records = busyGuest().slice(0, 3);
    const later = `${text(records)}{"type":"postcopy","at":3}\n{"type":"constructor","at":3}\n`;
    expect(parseLedger(later)).toEqual(stored(records));
  });

  test.each([
    ['an empty file', '', ':1'],
    ['some other file', 'root:x:0:0:root:/root:/bin/sh\n', ':1: '],
    ['JSON that is not records', '[1, 2]\n', ':1: '],
    ['a ledger without its start', text(busyGuest().slice(1, 4)), 'start record'],
    ['two ledgers in one', text([busyGuest()[0]!, busyGuest()[0]!]), 'more than one start'],
    [
      'a broken line in the middle',
      `${text(busyGuest().slice(0, 2))}{"ty\n${text(busyGuest().slice(2, 3))}`,
      ':3: ',
    ],
    [
      'a record without its fields',
      `${text(busyGuest().slice(0, 1))}{"type":"round","at":1}\n`,
      'no valid "round"',
    ],
    [
      'a field of the wrong type',
      `${text(busyGuest().slice(0, 1))}{"type":"note","at":"1","text":""}\n`,
      'no valid "at"',
    ],
  ])('%s is refused, with file and line', (_, content, expected) => {
    expect(() => parseLedger(content, '/var/x.ndjson')).toThrow(
      expect.objectContaining({
        code: 'ledger-invalid',
        message: expect.stringMatching(/^\/var\/x\.ndjson/),
      }),
    );
    expect(() => parseLedger(content, '/var/x.ndjson')).toThrow(expected);
  });

  test('every fixture is a ledger', () => {
    for (const make of Object.values(FIXTURES)) {
      const records = make();
      expect(parseLedger(text(records))).toEqual(stored(records));
    }
  });

  test('a migration without a ledger is unknown', async () => {
    await expect(readLedger(ledgerFile(dir, 'm-404'))).rejects.toMatchObject({
      code: 'unknown-migration',
      message: expect.stringContaining('m-404'),
    });
  });

  test.each(['../secret', '', '.', 'a/b', '.hidden', 'a\0b'])('the id %j leads nowhere', (id) => {
    expect(() => ledgerFile(dir, id)).toThrow(
      expect.objectContaining({ code: 'unknown-migration' }),
    );
  });

  test('a file that cannot be read says so', async () => {
    await expect(readLedger(dir)).rejects.toMatchObject({ code: 'ledger-failed' });
  });
});
