import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PageSet } from '../../lib/memory/page-set.ts';
import { rateOf, type SeenWindow, summary, WorkingSet } from '../../lib/memory/working-set.ts';

const END = 300;
const syncs = fc.array(
  fc.record({ pfns: fc.array(fc.nat(END - 1)), ms: fc.integer({ min: 1, max: 200 }) }),
  {
    minLength: 1,
    maxLength: 40,
  },
);

function setOf(pfns: readonly number[]): PageSet {
  const set = new PageSet(END);
  for (const pfn of pfns) set.add(pfn);
  return set;
}

test('windows are runs of syncs, doubled as often as they fit, and then everything', () => {
  fc.assert(
    fc.property(syncs, (given) => {
      const working = new WorkingSet(END);
      for (const { pfns, ms } of given) working.add(setOf(pfns), ms);
      const windowOf = (from: number, to: number): SeenWindow => {
        const slice = given.slice(from, to);
        const pages = new Set(slice.flatMap(({ pfns }) => pfns)).size;
        return { pages, ms: slice.reduce((sum, { ms }) => sum + ms, 0) };
      };
      const expected = [];
      for (let length = 1; length <= given.length; length *= 2) {
        const seen = [];
        for (let from = 0; from + length <= given.length; from += length)
          seen.push(windowOf(from, from + length));
        expected.push(summary(seen));
      }
      if (!Number.isInteger(Math.log2(given.length)))
        expected.push(summary([windowOf(0, given.length)]));
      expect(working.windows).toEqual(expected);
      const shortest = given.map((_, i) => windowOf(i, i + 1));
      expect(working.dirtyRate).toBeCloseTo(rateOf(shortest));
    }),
  );
});

test('no window has more pages than all of the time, and no median more than the high', () => {
  fc.assert(
    fc.property(syncs, (given) => {
      const working = new WorkingSet(END);
      for (const { pfns, ms } of given) working.add(setOf(pfns), ms);
      const last = working.windows.at(-1)!;
      for (const { windowMs, pages, high } of working.windows) {
        expect(pages).toBeLessThanOrEqual(high);
        expect(high).toBeLessThanOrEqual(last.pages);
        expect(windowMs).toBeLessThanOrEqual(last.windowMs);
      }
    }),
  );
});

test('half of the windows have no more than the median, nine of ten no more than the high', () => {
  const pages = fc.array(fc.nat(1000), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(pages, (counts) => {
      const line = summary(counts.map((count) => ({ ms: 100, pages: count })));
      const within = (most: number) => counts.filter((count) => count <= most).length;
      const below = (least: number) => counts.filter((count) => count < least).length;
      expect(line.windowMs).toBe(100);
      expect(within(line.pages)).toBeGreaterThanOrEqual(counts.length * 0.5);
      expect(below(line.pages)).toBeLessThan(counts.length * 0.5);
      expect(within(line.high)).toBeGreaterThanOrEqual(counts.length * 0.9);
      expect(below(line.high)).toBeLessThan(counts.length * 0.9);
    }),
  );
});

test('nothing was seen yet', () => {
  const working = new WorkingSet(END);
  expect(working.windows).toEqual([]);
  expect(working.dirtyRate).toBe(0);
});
