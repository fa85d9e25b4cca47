import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cutoverObjection } from '../../lib/precopy/cutover.ts';
import {
  deadlineMs,
  enoughFor,
  limitFor,
  longestEnforced,
  longestWithin,
  reserveMs,
} from '../../lib/precopy/fit.ts';
import { LIMIT_DURATIONS } from '../../lib/precopy/limits.ts';
import { contractPolicy } from '../../lib/precopy/policy/contract.ts';
import { termsOf } from '../../lib/precopy/policy/terms.ts';
import type { Estimate, PrecopyStats, Verdict } from '../../lib/precopy/stats.ts';
import { afterForecasts, LIMITS } from './policy/stats.ts';

/** Evenly, not around the ends. */
const around = (min: number, max: number) =>
  fc.noBias(fc.integer({ min: 0, max: 1_000_000 })).map((i) => min + ((max - min) * i) / 1e6);
const ms = (max: number) => around(0, max);

const division = fc.record({ after: ms(200), reserve: ms(400) });

/** In order, as forecasts are. */
const estimates: fc.Arbitrary<Estimate> = fc
  .record({ spans: fc.tuple(ms(3000), ms(300), ms(3000)), share: ms(1), division })
  .map(({ spans: [low, more, most], share, division: { after, reserve } }) => {
    const expected = low + more;
    const fixed = expected * share;
    return { low, expected, high: expected + most, fixed, after: Math.min(after, fixed), reserve };
  });

/** A policy's place, around the forecast: rounds that went well and badly, in time and late. */
const stats: fc.Arbitrary<PrecopyStats> = fc
  .record({
    estimate: estimates,
    history: fc.array(fc.constantFrom(0.97, 1, 1.02, 1.3, 4), { size: 'max', maxLength: 12 }),
    roundMs: fc.constantFrom(5, 700, 5000),
    when: fc.constantFrom('before-round', 'before-round', 'in-round', 'at-rest' as const),
    cutoverRequested: fc.boolean(),
    fallsTo: fc.constantFrom(0.3, 0.79, 1, 2),
  })
  .map(({ estimate, history, roundMs, fallsTo, ...more }) => {
    const forecasts = [...history.map((share) => estimate.expected * share), estimate.expected];
    const known = afterForecasts(forecasts, roundMs, { estimate, ...more });
    const last = known.history.at(-1)!;
    const round = { ...last, dirtyPages: Math.ceil(last.dirtiedPages / fallsTo) };
    return { ...known, history: [...known.history.slice(0, -1), round] };
  });

/** What may be asked for, around what the forecast takes. */
const asks = (shown: fc.Arbitrary<PrecopyStats>) =>
  fc
    .record({
      shown,
      share: fc.oneof(around(0.5, 2), around(0.9, 1.1)),
      abortAbove: fc.option(around(0.5, 4), { nil: undefined }),
      pauseBelow: fc.option(around(0, 1), { nil: undefined }),
      left: fc.option(around(0, 1.5), { nil: undefined }),
    })
    .map(({ shown, share, abortAbove, pauseBelow, left }) => {
      const { expected } = shown.estimate!;
      const needed = limitFor(expected, shown.estimate!);
      const maxSuspendMs = Math.max(10, Math.round(needed * share));
      const abortAboveMs = abortAbove && Math.max(10, expected * abortAbove);
      const most = Math.min(maxSuspendMs, abortAboveMs ?? maxSuspendMs);
      const pauseBelowMs = pauseBelow && Math.max(1, pauseBelow * most);
      const timeoutMs = left && shown.elapsedMs + left * expected;
      const asked = { ...LIMITS, maxSuspendMs, abortAboveMs, pauseBelowMs, timeoutMs };
      return { shown, asked };
    });

/** Nothing became better for ever so long. */
const stalled: fc.Arbitrary<PrecopyStats> = fc
  .record({ estimate: estimates, worse: around(1, 1.3) })
  .map(({ estimate, worse }) => {
    const { expected } = estimate;
    const history = [expected / worse, ...Array<number>(40).fill(expected)];
    return afterForecasts(history, 5000, { estimate });
  });

/** How much of a yes a verdict is. */
const RANK: Readonly<Record<Verdict['action'], number>> = {
  abort: 0,
  continue: 1,
  hold: 1,
  'stop-and-copy': 2,
};

test('what is kept for after the deadline: guessed, then as it was measured', () => {
  const unknown = { afterClaimMs: undefined, recallMs: undefined };
  expect(reserveMs(1, unknown)).toBe(57);
  expect(reserveMs(60, unknown)).toBe(175);
  expect(reserveMs(1, { afterClaimMs: 8, recallMs: 3 })).toBe(25);
  expect(reserveMs(1, { afterClaimMs: 28, recallMs: 3 })).toBe(33);
  expect(reserveMs(1, { afterClaimMs: 8, recallMs: 60 })).toBe(65);
});

test('of a short limit the reserve is half at most', () => {
  expect(deadlineMs(300, 32)).toBe(268);
  expect(deadlineMs(80, 65)).toBe(40);
});

describe('a forecast fits a limit', () => {
  test('when it is ready by the deadline and over by the limit, and the same figure says so anywhere', () => {
    fc.assert(
      fc.property(ms(4000), division, ms(8000), (length, of, limit) => {
        const near = Math.abs(limitFor(length, of) - limit) < 1e-3;
        fc.pre(!near);
        const byDeadline = length - of.after <= deadlineMs(limit, of.reserve) && length <= limit;
        expect(length <= longestWithin(limit, of)).toBe(byDeadline);
        expect(limitFor(length, of) <= limit).toBe(byDeadline);
      }),
      { numRuns: 2000 },
    );
  });

  test('with the limit that is advised, and with none that is a millisecond shorter', () => {
    fc.assert(
      fc.property(ms(4000), division, (length, of) => {
        const enough = enoughFor(length, of);
        expect(length).toBeLessThanOrEqual(longestWithin(enough, of));
        if (enough > LIMIT_DURATIONS.maxSuspendMs.min)
          expect(length).toBeGreaterThan(longestWithin(enough - 1, of));
      }),
      { numRuns: 2000 },
    );
  });

  test('and with every longer one', () => {
    fc.assert(
      fc.property(division, ms(5000), ms(5000), (of, limit, more) => {
        expect(longestWithin(limit + more, of)).toBeGreaterThanOrEqual(longestWithin(limit, of));
      }),
    );
  });
});

describe('the contract policy', () => {
  test('suspends nobody whose suspension would be rolled back by the same figures', () => {
    fc.assert(
      fc.property(asks(stats), ({ shown, asked }) => {
        const { action } = contractPolicy(shown, asked);
        if (action !== 'stop-and-copy') return;
        const { expected, after, reserve } = shown.estimate!;
        const limit = asked.maxSuspendMs;
        expect(expected).toBeLessThanOrEqual(limit + 1e-3);
        expect(expected - after).toBeLessThanOrEqual(deadlineMs(limit, reserve) + 1e-3);
        expect(cutoverObjection(shown.estimate, asked)).toBeUndefined();
      }),
      { numRuns: 20_000 },
    );
  });

  test('a longer limit makes no yes a no, and no waiting a giving up', () => {
    fc.assert(
      fc.property(asks(stats), around(1, 2), ({ shown, asked }, factor) => {
        const longer = { ...asked, maxSuspendMs: asked.maxSuspendMs * factor };
        const [before, after] = [asked, longer].map((one) => contractPolicy(shown, one).action);
        expect(RANK[after!], `${before} became ${after}`).toBeGreaterThanOrEqual(RANK[before!]);
      }),
      { numRuns: 20_000 },
    );
  });

  test('would have gone ahead at once with what it says was enough, on the forecast that it means', () => {
    let judged = 0;
    fc.assert(
      fc.property(asks(stalled), ({ shown, asked }) => {
        const { action, enoughMs } = contractPolicy(shown, asked);
        if (action !== 'abort' || enoughMs === undefined) return;
        judged++;
        const { estimate } = shown;
        if (asked.abortAboveMs === undefined) expect(enoughMs).toBeGreaterThan(asked.maxSuspendMs);
        const seen = shown.history.map(({ estimateMs }) => estimateMs);
        const best = Math.min(...seen, estimate!.expected);
        const highest = best * (estimate!.high / estimate!.expected);
        const enough = { ...asked, maxSuspendMs: enoughMs, abortAboveMs: undefined };
        expect(highest).toBeLessThanOrEqual(longestEnforced(enough, estimate!));
        expect(best).toBeLessThanOrEqual(termsOf(enough, estimate!).allowed);
      }),
      { numRuns: 3000 },
    );
    expect(judged).toBeGreaterThan(100);
  });
});
