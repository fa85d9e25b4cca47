import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GuestLayout } from '../../lib/memory/guest-layout.ts';
import { PageSet } from '../../lib/memory/page-set.ts';
import { DedupeIndex } from '../../lib/pages/dedupe-index.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { HashTable } from '../../lib/pages/hash-table.ts';
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

test.each([1, 5, 65_535, 65_536, 70_000])(
  'round tags settle what arrived in round %i or later',
  (round) => {
    const tags = new RoundTags(512);
    tags.mark(0, 10, round - 1);
    tags.mark(10, 10, round);
    tags.mark(20, 10, round + 1);
    const owed = new PageSet(512);
    owed.addRun({ firstPfn: 0, pages: 30 });
    tags.settle(owed, round);
    expect([...owed.runs()]).toEqual([{ firstPfn: 0, pages: 10 }]);
  },
);

test('a page that never arrived stays owed', () => {
  const owed = new PageSet(512);
  owed.add(511);
  new RoundTags(512).settle(owed, 1);
  expect(owed.has(511)).toBe(true);
});

test('a hash table keeps every page of its channel apart', () => {
  const layout = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: 2000 }]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), (channels) => {
      for (let channel = 0; channel < channels; channel++) {
        const table = new HashTable(layout, channel, channels);
        const own = Array.from({ length: 2000 }, (_, pfn) => pfn).filter(
          (pfn) => Math.floor(pfn / 256) % channels === channel,
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

test('the dedupe index finds only what matches in both hashes', () => {
  const index = new DedupeIndex();
  index.remember(10n, 20n, 3);
  expect(index.find(10n, 20n)).toBe(3);
  expect(index.find(10n, 21n)).toBeUndefined();
  index.remember(10n + (1n << 16n), 5n, 4); // the same slot
  expect(index.find(10n, 20n)).toBeUndefined();
});

test('the two hashes of a page are independent', () => {
  const hash = new PageHash(0n);
  const page = Buffer.alloc(4096, 1);
  expect(hash.of(page)).not.toBe(hash.second(page));
  expect(hash.ofLong(page)).toBe(hash.of(page));
  expect(new PageHash(1n).of(page)).not.toBe(hash.of(page));
});
