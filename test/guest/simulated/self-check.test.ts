import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CheckTable } from '../../../lib/guest/simulated/check-table.ts';
import { GuestDir, type TestGuest } from './fixture.ts';

const PAGE = 4096;
const ENTRY = 16;

/** A suspended guest with its memory now and as it was some thousand writes before. */
let guests: GuestDir;
let guest: TestGuest;
let fd: number;
let before: Buffer;
let now: Buffer;
let table: CheckTable;
/** A page that was written in between, and one that never was. */
let written: number;
let zero: number;

beforeEach(async () => {
  guests = new GuestDir();
  guest = await guests.boot('vm', { workload: 'uniform', rate: 'full', workingSet: '2MiB' });
  const { path } = (await guest.info()).memory[0]!;
  fd = openSync(path, 'r+');
  await guest.client.execute('stop');
  before = readFileSync(path);
  await guest.client.execute('cont');
  await guest.writes(2000);
  await guest.client.execute('stop');
  now = readFileSync(path);
  table = new CheckTable(now.length / PAGE);
  const pfns = Array.from({ length: table.dataPages }, (_, pfn) => pfn);
  // Neither is the first of its slice, where an off-by-one would hide.
  written = pfns.find((pfn) => pfn > 300 && !page(now, pfn).equals(page(before, pfn)))!;
  zero = pfns.find((pfn) => pfn > 300 && page(now, pfn).equals(Buffer.alloc(PAGE)))!;
});

afterEach(() => {
  closeSync(fd);
  guests.dispose();
});

const page = (memory: Buffer, pfn: number) => memory.subarray(pfn * PAGE, (pfn + 1) * PAGE);

function put(bytes: Buffer, at: number): void {
  writeSync(fd, bytes, 0, bytes.length, at);
}

/** What the guest finds; then the damage is undone, after which it must be clean again. */
async function finding(): Promise<{
  bad: number;
  badPfns: readonly number[];
  consistent: boolean;
}> {
  const { bad, badPfns, tableConsistent, clean } = await guest.selfCheck();
  expect(clean).toBe(bad === 0 && tableConsistent);
  put(now, 0);
  expect((await guest.selfCheck()).clean).toBe(true);
  return { bad, badPfns, consistent: tableConsistent };
}

test('nothing is found where nothing is wrong', async () => {
  expect(await finding()).toEqual({ bad: 0, badPfns: [], consistent: true });
});

test('a flipped bit', async () => {
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, written * PAGE + 4095);
  byte[0]! ^= 0x10;
  put(byte, written * PAGE + 4095);
  expect(await finding()).toEqual({ bad: 1, badPfns: [written], consistent: true });
});

test('a page that is zero, and one that should be', async () => {
  put(Buffer.alloc(PAGE), written * PAGE);
  put(Buffer.from([1]), zero * PAGE + 77);
  const badPfns = [written, zero].sort((a, b) => a - b);
  expect(await finding()).toEqual({ bad: 2, badPfns, consistent: true });
});

test('a page that is older than it should be', async () => {
  put(page(before, written), written * PAGE);
  expect(await finding()).toEqual({ bad: 1, badPfns: [written], consistent: true });
});

test('a torn page: half old, half new', async () => {
  const torn = Buffer.from(page(now, written));
  page(before, written).copy(torn, 0, 0, PAGE / 2);
  if (torn.equals(page(now, written))) page(before, written).copy(torn, PAGE / 2, PAGE / 2);
  put(torn, written * PAGE);
  expect(await finding()).toEqual({ bad: 1, badPfns: [written], consistent: true });
});

test('a page that is older together with its entry', async () => {
  const entry = table.offsetOf(written);
  put(page(before, written), written * PAGE);
  put(before.subarray(entry, entry + ENTRY), entry);
  expect(await finding()).toEqual({ bad: 0, badPfns: [], consistent: false });
});

test('a whole chunk that is older together with its page of the table', async () => {
  const first = Math.floor(written / 256) * 256;
  put(before.subarray(first * PAGE, Math.min(first + 256, table.dataPages) * PAGE), first * PAGE);
  const tablePfn = table.tablePfnOf(written);
  put(page(before, tablePfn), tablePfn * PAGE);
  expect(await finding()).toEqual({ bad: 0, badPfns: [], consistent: false });
});

test('all of memory older than the device state', async () => {
  put(before, 0);
  expect(await finding()).toEqual({ bad: 0, badPfns: [], consistent: false });
});

test('a page in the place of another, entry and all', async () => {
  const other = written > 600 ? written - 1 : written + 1;
  put(page(now, written), other * PAGE);
  const entry = table.offsetOf(written);
  put(now.subarray(entry, entry + ENTRY), table.offsetOf(other));
  expect(await finding()).toMatchObject({ bad: 1, badPfns: [other], consistent: false });
});
