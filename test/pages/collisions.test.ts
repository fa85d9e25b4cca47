import { afterEach, expect, test } from 'vitest';
import { CHUNK_PAGES, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { Pipeline } from './pipeline.ts';

/** A process in the guest writes pages that differ from a page it knows and have its xxh64. */

const MASK = (1n << 64n) - 1n;
const [PRIME_1, PRIME_2] = [0x9e3779b185ebca87n, 0xc2b2ae3d27d4eb4fn];
/** Takes back, in a lane of xxh64, what a flipped top bit did to it 32 bytes before. */
const CORRECTION = ((1n << 30n) * PRIME_1 * inverse(PRIME_2)) & MASK;

function inverse(odd: bigint): bigint {
  let x = odd;
  for (let i = 0; i < 6; i++) x = (x * (2n - odd * x)) & MASK;
  return x;
}

/** A page with the xxh64 of `page` for one seed in two, whatever the seed; `number` 0 to 1015: which. */
function twinOf(page: Buffer, number: number): Buffer {
  const twin = Buffer.from(page);
  const at = (number >> 1) * 8;
  const change = number % 2 === 0 ? CORRECTION : -CORRECTION;
  twin.writeBigUInt64LE(twin.readBigUInt64LE(at) ^ (1n << 63n), at);
  twin.writeBigUInt64LE((twin.readBigUInt64LE(at + 32) + change) & MASK, at + 32);
  return twin;
}

const SEEDS = Array.from({ length: 6 }, (_, i) => BigInt(i) * 0x1234_5678_9abcn);
const REGIONS = [{ name: 'ram', firstPfn: 0, pages: 2 * CHUNK_PAGES }];
const VICTIM = Buffer.alloc(PAGE_SIZE, 'a page of libc that everybody knows. ');
const ZEROS = Buffer.alloc(PAGE_SIZE);
const TWINS = 200;
const twinPfns = Array.from({ length: TWINS }, (_, i) => i);
const everyPfn = Array.from({ length: 2 * CHUNK_PAGES }, (_, pfn) => pfn);

let p: Pipeline;
afterEach(() => p?.close());

/** Makes the first pages twins of `of`, and counts those that hash like it. */
function putTwins(of: Buffer): number {
  for (const pfn of twinPfns) twinOf(of, pfn).copy(p.page(pfn));
  return twinPfns.filter((pfn) => p.hash.of(p.page(pfn)) === p.hash.of(of)).length;
}

const fill = (pfns: readonly number[], content: Buffer) => {
  for (const pfn of pfns) content.copy(p.page(pfn));
};

/** What the guest does, from one round to the next; each returns how many pages collided. */
const ordeals: Record<string, (send: (pfns: readonly number[]) => void) => number> = {
  'a page after its twins, in one batch and in another': (send) => {
    const collisions = putTwins(VICTIM);
    fill([TWINS, CHUNK_PAGES + 7], VICTIM);
    send(everyPfn);
    return collisions;
  },
  'a page after twins that came before, several times each': (send) => {
    const collisions = putTwins(VICTIM);
    for (const pfn of twinPfns) p.page(pfn).copy(p.page(CHUNK_PAGES + pfn));
    send(everyPfn);
    fill([TWINS], VICTIM);
    send(everyPfn);
    fill([TWINS + 1, 2 * CHUNK_PAGES - 1], VICTIM);
    send([TWINS + 1, 2 * CHUNK_PAGES - 1]);
    return collisions;
  },
  'a page in the place of its twin': (send) => {
    const collisions = putTwins(VICTIM);
    send(everyPfn);
    fill(twinPfns, VICTIM);
    send(twinPfns);
    return collisions;
  },
  'a page in the place of its twin that was sent again and again': (send) => {
    const collisions = putTwins(VICTIM);
    for (let i = 0; i < 3; i++) send(everyPfn);
    fill(twinPfns, VICTIM);
    send(twinPfns);
    putTwins(VICTIM);
    send(twinPfns);
    return collisions;
  },
  'zeros in the place of what hashes like zeros, and the other way round': (send) => {
    const collisions = putTwins(ZEROS);
    send(everyPfn);
    fill(twinPfns, ZEROS);
    send(twinPfns);
    putTwins(ZEROS);
    send(twinPfns);
    fill(twinPfns, ZEROS);
    send(twinPfns);
    return collisions;
  },
};

const efforts = [
  { level: 0, spare: false },
  { level: 1, spare: false },
  { level: 1, spare: true },
] as const;

test.each(Object.keys(ordeals).flatMap((what) => efforts.map((effort) => ({ what, ...effort }))))(
  '$what, level $level, time to spare: $spare: memory is right',
  ({ what, level, spare }) => {
    let collisions = 0;
    for (const seed of SEEDS) {
      p?.close();
      p = new Pipeline(REGIONS, 1, seed);
      p.spare = spare;
      let round = 0;
      collisions += ordeals[what]!((pfns) => {
        p.send(++round, pfns, level);
        const destination = p.destination();
        const wrong = everyPfn.filter((pfn) => {
          const page = destination.subarray(pfn * PAGE_SIZE, (pfn + 1) * PAGE_SIZE);
          return !page.equals(p.page(pfn));
        });
        expect(wrong, `seed ${seed}, round ${round}`).toEqual([]);
      });
    }
    // Otherwise nothing was tried.
    expect(collisions).toBeGreaterThan((SEEDS.length * TWINS) / 4);
  },
);
