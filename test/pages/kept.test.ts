import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CHUNK_PAGES, GuestLayout, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { ENCODING } from '../../lib/pages/encoding.ts';
import { KeptHashes } from '../../lib/pages/kept-hashes.ts';
import { noise, Pipeline } from './pipeline.ts';

/** The last chunk of the second region is not full, and nothing is kept of the first. */
const REGIONS = [
  { name: 'rom', firstPfn: 0, pages: 8 },
  { name: 'ram', firstPfn: CHUNK_PAGES, pages: 2 * CHUNK_PAGES + 44 },
];
const ALL = REGIONS.flatMap(({ firstPfn, pages }) =>
  Array.from({ length: pages }, (_, i) => firstPfn + i),
);
const KEPT = ALL.filter((pfn) => pfn >= CHUNK_PAGES);

let p: Pipeline;
beforeEach(() => {
  p = new Pipeline(REGIONS, 2);
  for (const pfn of ALL) if (pfn % 5 !== 0) noise(p.page(pfn), pfn + 1);
});
afterEach(() => p.close());

/** How each page of the first round went. */
function sendAll(): Map<number, number> {
  const ways = new Map<number, number>();
  for (let chunk = 0; chunk < p.layout.chunks; chunk++) {
    const first = chunk * CHUNK_PAGES;
    const offsets = ALL.filter((pfn) => pfn >= first && pfn < first + CHUNK_PAGES).map(
      (pfn) => pfn - first,
    );
    const batch = p.encode(1, chunk, offsets, 0);
    offsets.forEach((offset, i) => {
      ways.set(first + offset, batch.message.encodings[i]!);
    });
    p.decode(batch);
  }
  expect(p.destination().equals(p.source)).toBe(true);
  const { sent, received } = p.digests();
  expect(received).toEqual(sent);
  return ways;
}

test('a page that the receiver has kept goes as same, all others as ever', () => {
  p.keep(KEPT);
  const changed = KEPT.filter((pfn) => pfn % 10 === 1);
  for (const pfn of changed) noise(p.page(pfn), pfn + 10_000);
  p.tellKept(new Set(['ram']));
  const ways = sendAll();
  for (const pfn of ALL) {
    const expected =
      pfn % 5 === 0
        ? ENCODING.zero
        : pfn < CHUNK_PAGES || changed.includes(pfn)
          ? ENCODING.raw
          : ENCODING.same;
    expect(ways.get(pfn), `pfn ${pfn}`).toBe(expected);
  }
});

test('what is same in the first round is nothing that the link has drained', () => {
  p.keep(KEPT);
  p.tellKept(new Set(['ram']));
  const offsets = Array.from({ length: CHUNK_PAGES }, (_, i) => i);
  expect(p.encode(1, 1, offsets, 0).contentBytes).toBe(0);
});

test('a page that was zeroed is zero at the destination, whatever was kept there', () => {
  p.keep(KEPT);
  for (const pfn of KEPT) p.page(pfn).fill(0);
  p.tellKept(new Set(['ram']));
  expect(
    new Set([...sendAll()].filter(([pfn]) => KEPT.includes(pfn)).map(([, way]) => way)),
  ).toEqual(new Set([ENCODING.zero]));
});

test('hashes that come late change nothing about what was sent before them', () => {
  p.keep(KEPT);
  const kept = p.hashKept(new Set(['ram'])); // before anything has arrived
  for (const pfn of KEPT) noise(p.page(pfn), pfn + 10_000);
  sendAll();
  p.hearKept(kept);
  // As it was when it was kept: the receiver does not have that any more.
  for (const pfn of KEPT) if (pfn % 5 !== 0) noise(p.page(pfn), pfn + 1);
  p.send(2, KEPT, 0);
  expect(p.destination().equals(p.source)).toBe(true);
});

test('pages that have arrived are not told of any more', () => {
  p.keep(KEPT);
  p.send(1, ALL, 0);
  expect(p.hashKept(new Set(['ram']))).toEqual([]);
});

test('what hashes alike under xxh64 is not taken for what is kept', () => {
  p.keep(KEPT);
  const told = p.hashKept(new Set(['ram']));
  const pfn = CHUNK_PAGES + 1;
  noise(p.page(pfn), 99);
  // As a guest may bring about that has made a page collide.
  const lie = told.map(({ chunk, entries }) => {
    const forged = Buffer.from(entries);
    if (chunk === 1) forged.writeBigUInt64LE(p.hash.of(p.page(pfn)), 15);
    return { chunk, entries: forged };
  });
  p.hearKept(lie);
  const batch = p.encode(1, 1, [1], 0);
  expect([...batch.message.encodings]).toEqual([ENCODING.raw]);
});

test('a receiver that lies about what it has is found out when the page is to be there', () => {
  p.keep(KEPT);
  const told = p.hashKept(new Set(['ram']));
  p.spoil(CHUNK_PAGES + 1);
  p.hearKept(told);
  p.send(1, ALL, 0);
  expect(p.destination().equals(p.source)).toBe(false);
  expect(p.rereads()).toBe(CHUNK_PAGES + 1); // as verify does
});

const layout = new GuestLayout(REGIONS);
const entriesOf = (pages: number) => Buffer.alloc(pages * 15, 1);

test.each([
  ['a chunk of another lane', 1, CHUNK_PAGES],
  ['a chunk that the guest does not have', 4, CHUNK_PAGES],
  ['a chunk in a gap', 2 ** 32 - 2, CHUNK_PAGES],
  ['too few pages', 2, CHUNK_PAGES - 1],
])('refuses hashes of %s', (_, chunk, pages) => {
  const kept = new KeptHashes(layout, 0, 2);
  expect(() => kept.take(chunk, entriesOf(pages))).toThrow('has no place on lane 0');
});

test('refuses the hashes of a chunk twice', () => {
  const kept = new KeptHashes(layout, 0, 2);
  expect(kept.take(2, entriesOf(CHUNK_PAGES))).toHaveLength(CHUNK_PAGES);
  expect(() => kept.take(2, entriesOf(CHUNK_PAGES))).toThrow('has no place');
});

test('waits for the hashes of a chunk, and for no others', async () => {
  const kept = new KeptHashes(layout, 1, 2);
  let known = false;
  const waiting = kept.known(1).then(() => {
    known = true;
  });
  await new Promise(setImmediate);
  expect(known).toBe(false);
  kept.take(3, entriesOf(44)); // chunk 1 is all zeros
  await waiting;
  await kept.known(1);
  kept.take(0, Buffer.alloc(0));
  await kept.known(1_000_000);
});

test('a receiver that tells nothing is not waited for', async () => {
  vi.useFakeTimers();
  try {
    const kept = new KeptHashes(layout, 1, 2);
    const waiting = kept.known(1);
    await vi.advanceTimersByTimeAsync(2000);
    await waiting;
    await kept.known(3); // at once
    expect(kept.take(1, entriesOf(CHUNK_PAGES))).toHaveLength(CHUNK_PAGES); // it was only late
  } finally {
    vi.useRealTimers();
  }
});

test('zeros stand for pages that are not told of', () => {
  const kept = new KeptHashes(layout, 0, 2);
  const entries = Buffer.alloc(CHUNK_PAGES * 15);
  entries.set(randomBytes(14), 3 * 15);
  entries[3 * 15 + 8] = 1;
  expect(kept.take(2, entries).map(({ pfn }) => pfn)).toEqual([2 * CHUNK_PAGES + 3]);
  expect(entries.length / PAGE_SIZE).toBeLessThan(1);
});
