import { beforeEach, describe, expect, test } from 'vitest';
import { GuestLayout } from '../../lib/memory/guest-layout.ts';
import { Arrivals } from '../../lib/migration/arrivals.ts';
import type { ReceivePool } from '../../lib/pages/receive-pool.ts';
import { RoundTags } from '../../lib/pages/round-tags.ts';

const PAGES = 512;
const layout = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: PAGES }]);

describe('the book of rounds', () => {
  let tags: RoundTags;
  let arrivals: Arrivals;
  beforeEach(() => {
    tags = new RoundTags(PAGES);
    // All that it needs of the workers.
    const pool = { settle: tags.settle.bind(tags) } as Pick<ReceivePool, 'settle'> as ReceivePool;
    arrivals = new Arrivals(layout, pool);
  });
  const round = (number: number, gapRun: number[], dirtyPages: number, stopAndCopy = false) => {
    arrivals.begin({ round: number, stopAndCopy, dirtyPages });
    if (gapRun.length > 0) arrivals.list({ round: number, firstPfn: 0, gapRun });
  };
  const failing = (code: string) => expect.objectContaining({ code });

  test('every listed page came', () => {
    round(1, [0, PAGES], PAGES);
    tags.mark(0, PAGES, 1);
    arrivals.end({ round: 1, cutShort: false });
    round(2, [10, 5], 5, true);
    tags.mark(10, 5, 2);
    arrivals.end({ round: 2, cutShort: false });
    expect(arrivals.last).toBe(true);
    expect(() => arrivals.complete()).not.toThrow();
  });

  test('one listed page is missing', () => {
    round(1, [0, PAGES], PAGES);
    tags.mark(0, PAGES - 1, 1);
    expect(() => arrivals.end({ round: 1, cutShort: false })).toThrow(/pfn 511/);
  });

  test('an old copy of a page does not count', () => {
    round(1, [0, PAGES], PAGES);
    tags.mark(0, PAGES, 1);
    arrivals.end({ round: 1, cutShort: false });
    round(2, [7, 1], 1);
    expect(() => arrivals.end({ round: 2, cutShort: false })).toThrow(failing('round-incomplete'));
  });

  test('what a cut-short round leaves out stays owed', () => {
    round(1, [0, PAGES], PAGES);
    tags.mark(0, 100, 1);
    arrivals.end({ round: 1, cutShort: true });
    round(2, [100, 300], 300, true);
    tags.mark(100, 300, 2);
    expect(() => arrivals.end({ round: 2, cutShort: false })).toThrow(failing('round-incomplete'));
  });

  test('data of the next round may overtake the end of this one', () => {
    round(1, [0, PAGES], PAGES);
    tags.mark(0, PAGES, 1);
    tags.mark(3, 1, 2);
    arrivals.end({ round: 1, cutShort: false });
    round(2, [3, 1], 1, true);
    arrivals.end({ round: 2, cutShort: false });
    expect(() => arrivals.complete()).not.toThrow();
  });

  test.each([40_000, 70_000])('what is missing in round %i is missed as in the second', (last) => {
    round(1, [0, PAGES], PAGES);
    tags.mark(0, PAGES, 1);
    arrivals.end({ round: 1, cutShort: false });
    for (let number = 2; number < last; number++) {
      round(number, [7, 1], 1);
      // What was listed in one round comes with the next.
      if (number % 2 === 1) tags.mark(7, 1, number);
      arrivals.end({ round: number, cutShort: number % 2 === 0 });
    }
    round(last, [8, 1], 1);
    expect(() => arrivals.end({ round: last, cutShort: false })).toThrow(/pfn 8/);
  });

  test('rounds out of order, lists out of place and counts that do not fit are refused', () => {
    expect(() => round(2, [], 1)).toThrow(failing('bad-message'));
    expect(() => round(1, [], PAGES - 1)).toThrow(/announces 511 of 512/);
    expect(() => arrivals.list({ round: 1, firstPfn: 0, gapRun: [0, 1] })).toThrow(
      failing('bad-message'),
    );
    expect(() => arrivals.end({ round: 1, cutShort: false })).toThrow(failing('bad-message'));
    expect(() => arrivals.complete()).toThrow(failing('bad-message'));
    round(1, [0, 10], PAGES);
    expect(() => arrivals.end({ round: 1, cutShort: false })).toThrow(
      /announced 512 pages and listed 10/,
    );
  });

  test('nothing comes after the last round', () => {
    round(1, [0, PAGES], PAGES, true);
    tags.mark(0, PAGES, 1);
    arrivals.end({ round: 1, cutShort: false });
    expect(() => round(2, [0, 1], 1)).toThrow(failing('bad-message'));
  });
});
