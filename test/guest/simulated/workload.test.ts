import { describe, expect, test } from 'vitest';
import { CheckTable } from '../../../lib/guest/simulated/check-table.ts';
import { Random } from '../../../lib/guest/simulated/random.ts';
import { sliceOf, WritePlan, workloadSettings } from '../../../lib/guest/simulated/workload.ts';

const SLICE = { first: 1024, pages: 8192 };
const WORKING_PAGES = 512;

function picks(workload: string, count: number): number[] {
  // Two vCPUs: each has half of the working set.
  const settings = workloadSettings(workload, { workingSet: 2 * WORKING_PAGES * 4096 });
  const plan = new WritePlan(settings, SLICE, 2, 7);
  const random = new Random(11);
  return Array.from({ length: count }, () => plan.next(random));
}

test.each(['idle', 'uniform', 'sweep', 'never-converging'])(
  '%s writes all of its share of the working set and nothing else',
  (workload) => {
    const pages = new Set(picks(workload, 20_000));
    expect(pages.size).toBe(WORKING_PAGES);
    const [low, high] = [Math.min(...pages), Math.max(...pages)];
    expect(high - low).toBe(WORKING_PAGES - 1);
    expect(low).toBeGreaterThanOrEqual(SLICE.first);
    expect(high).toBeLessThan(SLICE.first + SLICE.pages);
  },
);

test.each(['hot-set', 'phased'])('%s writes elsewhere one time in ten', (workload) => {
  const all = picks(workload, 20_000);
  const times = new Map<number, number>();
  for (const pfn of all) times.set(pfn, (times.get(pfn) ?? 0) + 1);
  const hot = [...times.values()].filter((n) => n > 12);
  expect(hot.length).toBe(WORKING_PAGES);
  expect(hot.reduce((sum, n) => sum + n, 0) / all.length).toBeCloseTo(0.9, 1);
  for (const pfn of all) expect(pfn - SLICE.first).toBeLessThan(SLICE.pages);
});

test('sweep goes through the working set in order, again and again', () => {
  const order = picks('sweep', 2 * WORKING_PAGES);
  expect(order.slice(0, WORKING_PAGES)).toEqual(order.slice(WORKING_PAGES));
  expect(new Set(order).size).toBe(WORKING_PAGES);
});

test('phased is busy for half of its period and quiet for the other', () => {
  const plan = new WritePlan(
    workloadSettings('phased', { rate: 1000, period: 100 }),
    ...([SLICE, 1, 7] as const),
  );
  expect([0, 49, 50, 99, 100].map((ms) => plan.rateAt(ms))).toEqual([1000, 1000, 20, 20, 1000]);
  const flatOut = new WritePlan(workloadSettings('never-converging'), SLICE, 1, 7);
  expect(flatOut.rateAt(0)).toBe(Number.POSITIVE_INFINITY);
});

test('an unknown workload is refused by naming those there are', () => {
  expect(() => workloadSettings('busy')).toThrow(/idle, uniform, hot-set/);
});

describe('memory is divided so that', () => {
  test.each([
    [1020, 1],
    [1020, 3],
    [130_561, 16],
  ])('%i pages on %i vCPUs have one writer each, and each table page too', (pages, vcpus) => {
    const slices = Array.from({ length: vcpus }, (_, i) => sliceOf(i, vcpus, pages, 256));
    let next = 0;
    for (const { first, pages: count } of slices) {
      expect(first).toBe(next);
      expect(first % 256).toBe(0);
      expect(count).toBeGreaterThan(0);
      next = first + count;
    }
    expect(next).toBe(pages);
  });

  test.each([2, 256, 257, 258, 4096, 131_072, 2 ** 22 + 1])(
    'the table of %i pages has room for each page before it',
    (pages) => {
      const table = new CheckTable(pages);
      const last = table.dataPages - 1;
      expect(table.offsetOf(last) + 16).toBeLessThanOrEqual(pages * 4096);
      expect(table.tablePfnOf(last)).toBeLessThan(pages);
      expect(table.tablePfnOf(0)).toBe(table.dataPages);
      expect(pages - table.dataPages - last / 256).toBeLessThan(2); // and hardly more
    },
  );
});
