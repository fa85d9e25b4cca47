import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CheckTable, createPageCheck } from '../../../lib/guest/simulated/check-table.ts';
import { ContentGenerator } from '../../../lib/guest/simulated/content.ts';
import { DEFAULT_MIX } from '../../../lib/guest/simulated/content-mix.ts';
import { DirtyLog } from '../../../lib/guest/simulated/dirty-log.ts';
import { GuestMemory } from '../../../lib/guest/simulated/guest-memory.ts';
import { Random } from '../../../lib/guest/simulated/random.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';

const PAGES = 2056;

function pagesOf(log: DirtyLog): number[] {
  const set = new PageSet(PAGES);
  set.bytes.set(log.harvest());
  return [...set.runs()].flatMap(({ firstPfn, pages }) =>
    Array.from({ length: pages }, (_, i) => firstPfn + i),
  );
}

test('a harvest takes what was marked since the last one', () => {
  const log = new DirtyLog(PAGES);
  log.start();
  for (const pfn of [0, 31, 32, 33, 33, PAGES - 1]) log.mark(pfn);
  expect(pagesOf(log)).toEqual([0, 31, 32, 33, PAGES - 1]);
  expect(pagesOf(log)).toEqual([]);
});

test('only marks while it is on, and starts clean', () => {
  const log = new DirtyLog(PAGES);
  log.mark(1);
  log.start();
  expect(pagesOf(log)).toEqual([]);
  log.mark(2);
  log.stop();
  log.mark(3);
  log.start();
  expect(pagesOf(log)).toEqual([]);
});

test('threads share one log', () => {
  const log = new DirtyLog(PAGES);
  const other = new DirtyLog(PAGES, log.shared);
  log.start();
  other.mark(77);
  expect(pagesOf(log)).toEqual([77]);
});

/** Notes what memory held for a page at the moment that the page was marked. */
class Witness extends DirtyLog {
  readonly seen = new Map<number, Buffer>();
  readonly #read: (pfn: number) => Buffer;

  constructor(read: (pfn: number) => Buffer) {
    super(PAGES);
    this.#read = read;
  }

  override mark(pfn: number): void {
    this.seen.set(pfn, this.#read(pfn));
  }
}

test('a page and its page of the table are marked after they were written, never before', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'godwit-memory-'));
  const path = join(dir, 'ram');
  const fd = openSync(path, 'wx+');
  ftruncateSync(fd, PAGES * 4096);
  const read = (pfn: number) => readFileSync(path).subarray(pfn * 4096, (pfn + 1) * 4096);
  const table = new CheckTable(PAGES);
  const content = new ContentGenerator(DEFAULT_MIX, 7, PAGES);
  const witness = new Witness(read);
  const slice = { first: 0, pages: table.dataPages };
  const memory = new GuestMemory(fd, slice, table, await createPageCheck(), witness);
  memory.boot(content);
  expect(witness.seen.size).toBe(0);
  for (const [pfn, write] of [
    [5, () => memory.rewrite(5, content)],
    [700, () => memory.change(700, new Random(3))],
  ] as const) {
    const before = [read(pfn), read(table.tablePfnOf(pfn))];
    write();
    const after = [read(pfn), read(table.tablePfnOf(pfn))];
    expect(after[0]!.equals(before[0]!)).toBe(false);
    expect(after[1]!.equals(before[1]!)).toBe(false);
    expect(witness.seen.get(pfn)!.equals(after[0]!)).toBe(true);
    expect(witness.seen.get(table.tablePfnOf(pfn))!.equals(after[1]!)).toBe(true);
  }
  expect(witness.seen.size).toBe(4);
  expect(memory.check()).toMatchObject({ pages: table.dataPages, bad: 0, tableConsistent: true });
  closeSync(fd);
  rmSync(dir, { recursive: true });
});
