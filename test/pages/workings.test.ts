import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GuestLayout, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { PageSet } from '../../lib/memory/page-set.ts';
import { DedupeIndex } from '../../lib/pages/dedupe-index.ts';
import { hashableMemory, PageHash } from '../../lib/pages/hash.ts';
import { HashTable } from '../../lib/pages/hash-table.ts';
import { KeyedHashes } from '../../lib/pages/keyed-hashes.ts';
import { PACER_SIZE, Pacer } from '../../lib/pages/pacer.ts';
import { RoundTags } from '../../lib/pages/round-tags.ts';
import { SendWindow } from '../../lib/pages/send-window.ts';

describe('the pacer', () => {
  const MS = 1_000_000n;
  const start = 1_000_000_000_000n;

  test('no cap, no wait', () => {
    expect(new Pacer(new SharedArrayBuffer(PACER_SIZE)).claim(1e9, start)).toBe(0);
  });

  test('two senders share one cap', () => {
    const shared = new SharedArrayBuffer(PACER_SIZE);
    const [a, b] = [new Pacer(shared), new Pacer(shared)];
    a.setRate(1_000_000);
    expect(a.claim(100_000, start)).toBe(0);
    // 100 ms of link are taken, less the 5 ms that may be caught up.
    expect(b.claim(100_000, start)).toBeCloseTo(95, 0);
    expect(a.claim(1, start)).toBeCloseTo(195, 0);
    expect(a.claim(1, start + 300n * MS)).toBe(0);
  });

  test('over a long time the rate is kept', () => {
    const pacer = new Pacer(new SharedArrayBuffer(PACER_SIZE));
    pacer.setRate(10_000_000);
    let now = start;
    let sent = 0;
    while (now < start + 1000n * MS) {
      now += BigInt(Math.ceil(pacer.claim(64_000, now) * 1e6));
      sent += 64_000;
    }
    expect(sent).toBeGreaterThan(9_900_000);
    expect(sent).toBeLessThan(10_200_000);
  });

  test('a new rate counts at once', () => {
    const pacer = new Pacer(new SharedArrayBuffer(PACER_SIZE));
    pacer.setRate(1000);
    pacer.claim(1_000_000, start);
    expect(pacer.claim(1, start)).toBeGreaterThan(900_000);
    pacer.setRate(undefined);
    expect(pacer.claim(1_000_000, start)).toBe(0);
  });
});

test('a sender that waits for its turn hears of a new rate', async () => {
  const shared = new SharedArrayBuffer(PACER_SIZE);
  const [main, worker] = [new Pacer(shared), new Pacer(shared)];
  main.setRate(1000);
  const passed = worker.pass(1e9); // eleven days
  main.setRate(undefined);
  await passed;
});

describe('the send window', () => {
  test('gives out its slots and waits for an acknowledgement for more', async () => {
    const window = new SendWindow(2);
    for (const sequence of [0, 1]) window.sent(await window.take(), sequence, 10);
    let third = false;
    const taken = window.take().then((slot) => {
      third = true;
      return slot;
    });
    await Promise.resolve();
    expect(third).toBe(false);
    expect(window.acknowledge(0)).toBe(10);
    window.sent(await taken, 2, 5);
    expect(window.outstanding).toBe(2);
    const drained = window.drained();
    expect(window.acknowledge(2)).toBe(15);
    await drained;
    expect(window.acknowledged).toBe(3);
  });

  test('a failure ends every wait, now and later', async () => {
    const window = new SendWindow(1);
    window.sent(await window.take(), 0, 1);
    const waits = [window.take(), window.drained()];
    window.fail(new Error('gone'));
    for (const wait of waits) await expect(wait).rejects.toThrow('gone');
    await expect(window.take()).rejects.toThrow('gone');
    await expect(window.drained()).rejects.toThrow('gone');
  });
});

describe('round tags', () => {
  const ROUNDS = [2, 32_768, 32_769, 40_000, 65_535, 65_536, 65_537, 70_000, 2 ** 31, 2 ** 32 - 2];
  const owedAfter = (round: number, mark: (tags: RoundTags) => void) => {
    const tags = new RoundTags(512);
    mark(tags);
    const owed = new PageSet(512);
    owed.addRun({ firstPfn: 0, pages: 30 });
    tags.settle(owed, round);
    return [...owed.runs()];
  };

  test.each(ROUNDS)('settle what arrived in round %i or later', (round) => {
    const owed = owedAfter(round, (tags) => {
      tags.mark(0, 10, round - 1);
      tags.mark(10, 10, round);
      tags.mark(20, 10, round + 1);
    });
    expect(owed).toEqual([{ firstPfn: 0, pages: 10 }]);
  });

  test.each([1, ...ROUNDS])('in round %i, a page that never arrived stays owed', (round) => {
    expect(owedAfter(round, () => {})).toEqual([{ firstPfn: 0, pages: 30 }]);
  });

  test.each(ROUNDS)('in round %i, a page that arrived in the first alone is owed', (round) => {
    const owed = owedAfter(round, (tags) => tags.mark(0, 30, 1));
    expect(owed).toEqual([{ firstPfn: 0, pages: 30 }]);
  });
});

test('a hash table keeps every page of its lane apart', () => {
  const layout = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: 2000 }]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), (lanes) => {
      for (let lane = 0; lane < lanes; lane++) {
        const table = new HashTable(layout, lane, lanes);
        const own = Array.from({ length: 2000 }, (_, pfn) => pfn).filter(
          (pfn) => Math.floor(pfn / 256) % lanes === lane,
        );
        for (const pfn of own) table.set(pfn, BigInt(pfn + 1));
        for (const pfn of own) expect(table.get(pfn)).toBe(BigInt(pfn + 1));
      }
    }),
    { numRuns: 5 },
  );
});

test('a digest tells of one page that differs', () => {
  const layout = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: 300_000 }]);
  const hash = new PageHash(3n);
  const tables = [new HashTable(layout, 0, 1), new HashTable(layout, 0, 1)];
  for (const table of tables) for (let pfn = 0; pfn < 300_000; pfn += 7) table.set(pfn, 5n);
  expect(tables[0]!.digest(hash)).toBe(tables[1]!.digest(hash));
  tables[1]!.set(299_999, 1n);
  expect(tables[0]!.digest(hash)).not.toBe(tables[1]!.digest(hash));
});

test('the dedupe index remembers the last page of each slot', () => {
  const index = new DedupeIndex(1 << 20);
  expect(index.find(10n)).toBeUndefined();
  index.remember(10n, 3);
  expect(index.find(10n)).toBe(3);
  expect(index.find(11n)).toBeUndefined();
  index.remember(10n + (1n << 16n), 4); // the same slot
  expect(index.find(10n)).toBe(4);
});

test('keyed hashes know what was said of a page, and no two of them agree', () => {
  const table = new HashTable(new GuestLayout([{ name: 'ram', firstPfn: 0, pages: 600 }]), 1, 2);
  const [keyed, other] = [new KeyedHashes(table), new KeyedHashes(table)];
  const page = Buffer.alloc(PAGE_SIZE, 1);
  const hash = keyed.of(page);
  expect(keyed.has(300, hash)).toBe(false);
  keyed.set(300, hash);
  expect(keyed.has(300, keyed.of(page))).toBe(true);
  for (const pfn of [256, 299, 301, 511]) expect(keyed.has(pfn, hash)).toBe(false);
  page[4095]! ^= 1;
  expect(keyed.has(300, keyed.of(page))).toBe(false);
  keyed.forget(300);
  expect(keyed.has(300, hash)).toBe(false);
  // A guest that knew the secret of one migration would know nothing of the next.
  page[4095]! ^= 1;
  expect(other.of(page)).not.toEqual(hash);
});

test('a page and any bytes have one hash, and another with each seed', () => {
  const hash = new PageHash(0n);
  const page = Buffer.alloc(PAGE_SIZE, 1);
  expect(hash.ofLong(page)).toBe(hash.of(page));
  expect(new PageHash(1n).of(page)).not.toBe(hash.of(page));
});

test('a hash is the same whether bytes are copied for it or hashed where they lie', () => {
  const bytes = Buffer.from(Array.from({ length: 256 << 10 }, (_, i) => (i * i) % 251));
  const shared = Buffer.from(new SharedArrayBuffer(bytes.length));
  bytes.copy(shared);
  const [one, other] = [hashableMemory(bytes.length), hashableMemory(bytes.length)];
  bytes.copy(one);
  bytes.copy(other);
  for (const seed of [0n, 7n, 2n ** 64n - 1n]) {
    const hash = new PageHash(seed);
    for (const [from, length] of [
      [0, 4096],
      [4096, 4096],
      [1, 4096],
      [3, 0],
      [5, 31],
      [0, 256 << 10],
    ] as const) {
      const part = (memory: Buffer) => hash.of(memory.subarray(from, from + length));
      expect(part(one)).toBe(part(bytes));
      expect(part(other)).toBe(part(bytes));
      expect(part(shared)).toBe(part(bytes));
      expect(hash.ofLong(bytes.subarray(from, from + length))).toBe(part(bytes));
    }
  }
  expect(one.equals(bytes)).toBe(true);
});
