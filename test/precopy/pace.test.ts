import { expect, test } from 'vitest';
import type { Subject } from '../../lib/precopy/calibration.ts';
import { PACE_UNDER_WAY, paceBy, paceOf, rehearsedPace, spreadOf } from '../../lib/precopy/pace.ts';
import type { PastMove } from '../../lib/precopy/past-moves.ts';
import { type GuestProfile, pagesWithin, type WindowPages } from '../../lib/precopy/profile.ts';

const TOTAL = 100_000;
const SEEN = [100, 200, 400, 800, 1600];

/** Pages written evenly over a set of them, so many a second. */
function written(perSecond: number, set: number, windows: readonly number[]): WindowPages[] {
  return windows.map((windowMs) => {
    const pages = Math.round(set * (1 - Math.exp((-perSecond * windowMs) / 1000 / set)));
    return { windowMs, pages, high: pages };
  });
}

test.each([0.5, 1, 2, 3.3])(
  'a guest that dirties its memory %f times as fast is found to',
  (pace) => {
    const profile = { totalPages: TOTAL, workingSet: written(5000, 20_000, SEEN) };
    const moved = written(5000 * pace, 20_000, [50, 130, 330]);
    expect(paceOf(profile, moved)).toBeGreaterThan(pace * 0.9);
    expect(paceOf(profile, moved)).toBeLessThan(pace * 1.1);
    for (const { windowMs, pages } of moved) {
      const told = pagesWithin(profile.workingSet, 'pages', windowMs * pace, TOTAL);
      expect(Math.abs(told / pages - 1)).toBeLessThan(0.1);
    }
  },
);

test('one that dirties nothing, or always the same pages, shows no pace', () => {
  const workingSet = written(50_000, 1000, SEEN);
  expect(paceOf({ totalPages: TOTAL, workingSet }, written(99_000, 1000, [900]))).toBeUndefined();
  expect(paceOf({ totalPages: TOTAL, workingSet: [] }, [])).toBeUndefined();
  const idle = { windowMs: 100, pages: 3, high: 3 };
  expect(paceOf({ totalPages: TOTAL, workingSet: [idle] }, [idle])).toBeUndefined();
  // A guest of which the profile saw nothing is faster than can be said.
  expect(paceOf({ totalPages: TOTAL, workingSet: [] }, written(9000, 5000, [100]))).toBeUndefined();
});

test('after a rehearsal a guest is as fast as in it, and off by what its passes were', () => {
  const workingSet = written(5000, 20_000, SEEN);
  const profile = { totalPages: TOTAL, workingSet };
  const passes = [0.8, 1, 1, 1, 1.6].flatMap((pace) =>
    written(5000 * pace, 20_000, [130, 330]).map(({ windowMs: ms, pages }) => ({ ms, pages })),
  );
  const pace = spreadOf(profile, passes)!;
  expect(pace.low).toBeGreaterThan(0.7);
  expect(pace.low).toBeLessThan(1);
  expect(pace.high).toBeGreaterThan(1.3);
  expect(pace.high).toBeLessThan(1.7);
  expect(spreadOf(profile, passes.slice(0, 2))).toBeUndefined();

  const rehearsed: GuestProfile = {
    ...{ guest: 'vm1', time: '2026-01-02T03:04:05.000Z', ms: 10_000, totalPages: TOTAL },
    ...{ workingSet, zeroShare: 0, compressedShare: 1, method: 'rehearsal' },
  };
  expect(rehearsedPace({ ...rehearsed, pace })).toEqual({ ...pace, expected: 1 });
  expect(rehearsedPace({ ...rehearsed, pace: { low: 1.1, high: 1.2 } })!.low).toBe(1);
  const stray = { ...rehearsed, pace: { low: 0.1, high: 9 } };
  expect(rehearsedPace(stray)).toEqual({ low: 0.5, expected: 1, high: 3 });
  expect(rehearsedPace(rehearsed)).toEqual(PACE_UNDER_WAY);
  expect(rehearsedPace({ ...rehearsed, method: 'page-sampling' })).toBeUndefined();
});

test('the pace of the likest moves is learned from the third on, with the range that they had', () => {
  const subject: Subject = {
    ...{ guest: 'vm1', hypervisor: 'qemu', deviceModel: 'm', peer: 'hostb:7070' },
    ...{ totalPages: 1000, deviceStateBytes: undefined },
  };
  const move = (pace: number | undefined, guest = 'vm1'): PastMove => ({
    ...{ ...subject, guest, kind: 'move', time: '2026-01-02T03:04:05.000Z', moved: true },
    ...{ givenUp: false, foretold: [], totalMs: 1000, suspensionMs: 10, setupMs: 300 },
    ...{ way: undefined, seen: undefined, pace },
  });
  expect(paceBy(subject, [move(1), move(undefined), move(1.1)])).toBeUndefined();
  const others = [move(2, 'a'), move(2.5, 'b'), move(2.2, 'c')];
  expect(paceBy(subject, others)).toEqual({ low: 1, expected: 2.2, high: 3 });
  const many = Array.from({ length: 40 }, (_, i) => move(1 + (i % 5) / 10));
  expect(paceBy(subject, [...others, ...many])).toEqual({ low: 1, expected: 1.2, high: 1.4 });
});
