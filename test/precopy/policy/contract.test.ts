import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contractPolicy } from '../../../lib/precopy/policy/contract.ts';
import {
  type Estimate,
  type PolicyLimits,
  type PrecopyStats,
  UNKNOWN,
} from '../../../lib/precopy/stats.ts';
import { afterForecasts, estimate, LIMITS } from './stats.ts';

function ask(stats: PrecopyStats, limits: Partial<PolicyLimits> = {}): string {
  const { action, reason } = contractPolicy(stats, { ...LIMITS, ...limits });
  return `${action}: ${reason}`;
}

/** `count` times the same forecast, after a first one. */
const flat = (forecast: number, count: number) => Array<number>(count).fill(forecast);

describe('while it goes well', () => {
  test('before anything is sent', () => {
    expect(ask(afterForecasts([], 0))).toBe(
      'continue: nothing is sent yet: all 131072 pages are to go',
    );
  });

  test('an idle guest is suspended after the first round', () => {
    expect(ask(afterForecasts([12], 1000))).toBe(
      'stop-and-copy: forecast 12 ms (11 ms to 13 ms) is within the 300 ms allowed',
    );
  });

  test('a guest that is becoming idle gets another round, though the forecast would do', () => {
    expect(ask(afterForecasts([250, 100], 200))).toBe(
      'continue: forecast 100 ms (90 ms to 110 ms) would do, but the guest is becoming idle (24000 to 9000 pages in a round): another round shortens it',
    );
  });

  test('and is suspended as soon as a round no longer gains', () => {
    expect(ask(afterForecasts([250, 100, 90], 200))).toBe(
      'stop-and-copy: forecast 90 ms (81 ms to 99 ms) is within the 300 ms allowed',
    );
  });

  test('or when the time left would not allow another round', () => {
    expect(ask(afterForecasts([250, 100], 200), { timeoutMs: 700 })).toMatch(
      /^continue: .* becoming idle/,
    );
    expect(ask(afterForecasts([250, 100], 200), { timeoutMs: 590 })).toMatch(/^stop-and-copy/);
  });

  test('the fixed part is not counted as something that another round shortens', () => {
    const stats = afterForecasts([500, 200], 200, { estimate: estimate(200, 197) });
    expect(ask(stats)).toMatch(/^stop-and-copy: forecast 200 ms/);
  });
});

describe('between the thresholds', () => {
  test('it waits a little for a better moment, then takes the local minimum', () => {
    const between = { pauseBelowMs: 100 };
    expect(ask(afterForecasts([250, 200], 500), between)).toBe(
      'continue: forecast 200 ms (180 ms to 220 ms) is within the 300 ms allowed, but may still improve',
    );
    expect(ask(afterForecasts([250, ...flat(200, 4)], 500), between)).toMatch(/^continue/);
    expect(ask(afterForecasts([250, ...flat(200, 5)], 500), between)).toBe(
      'stop-and-copy: forecast 200 ms (180 ms to 220 ms) no longer improves (best 200 ms) and is within the 300 ms allowed',
    );
  });

  test('a bad moment is let pass, because a better one was seen', () => {
    const between = { pauseBelowMs: 100 };
    expect(ask(afterForecasts([250, ...flat(200, 5), 260], 500), between)).toMatch(/^continue/);
    expect(ask(afterForecasts([250, ...flat(200, 5), 260, 203], 500), between)).toMatch(
      /^stop-and-copy/,
    );
  });

  test('a forecast that fits only in the mean waits for convergence, then the limit guards', () => {
    expect(ask(afterForecasts([290], 300))).toMatch(/^continue/);
    expect(ask(afterForecasts(flat(290, 9), 300))).toMatch(/^stop-and-copy/);
  });
});

describe('when it does not converge', () => {
  const far = afterForecasts(flat(2900, 6), 2800);

  test('workload: aborts long before any time limit and says what would have been enough', () => {
    expect(ask(far, { timeoutMs: 120_000 })).toBe(
      'abort: nothing better in 14.00 s (5 rounds); the best forecast seen, 2.90 s, is above the limit of 300 ms; a limit of 3191 ms would have been enough',
    );
  });

  test('workload: not before the patience is used up, which grows with the time limit', () => {
    expect(ask(afterForecasts(flat(2900, 4), 2800))).toBe(
      'continue: forecast 2.90 s is above the limit of 300 ms; best 2.90 s, waited 8.40 s of 13.18 s for a better moment',
    );
    expect(ask(far, { timeoutMs: 600_000 })).toMatch(/^continue: .* waited 14.00 s of 57.16 s/);
  });

  test('workload: a near miss is waited for longer than a hopeless case', () => {
    expect(ask(afterForecasts(flat(400, 8), 2800))).toMatch(/^continue/);
    expect(ask(afterForecasts(flat(400, 40), 2800))).toMatch(
      /^abort: .* best forecast seen, 400 ms, .* a limit of 441 ms would have been enough$/,
    );
  });

  test('workload: rounds that are short do not use it up by their number', () => {
    const short = flat(900, 64);
    expect(ask(afterForecasts(short, 30, { elapsedMs: 4000 }))).toMatch(
      /^continue: .* waited 1\.89 s of 14\.\d\d s for a better moment$/,
    );
    expect(ask(afterForecasts(short, 30, { elapsedMs: 20_000 }))).toMatch(/^abort: /);
    const held = { elapsedMs: 20_000, sinceHeldMs: 4000 };
    expect(ask(afterForecasts(short, 30, held))).toMatch(/^continue: /);
  });

  test('completion: moves at the local minimum', () => {
    const limits = { prefer: 'completion' } as const;
    expect(ask(far, limits)).toBe(
      'stop-and-copy: nothing better than 2.90 s in 14.00 s: the forecast of 2.90 s is above the limit of 300 ms, but completion is preferred',
    );
    const bad = afterForecasts([...flat(2900, 6), 4000], 2800);
    expect(ask(bad, limits)).toBe(
      'continue: forecast 4.00 s; waiting for a moment as good as the 2.90 s seen',
    );
  });

  test('completion: abort-above is stronger', () => {
    expect(ask(far, { prefer: 'completion', abortAboveMs: 2000 })).toBe(
      'abort: nothing better in 14.00 s and the forecast of 2.90 s is above the 2.00 s of --abort-above; 3191 ms would have been enough',
    );
  });

  test('abort-above does not act while the first rounds still shrink', () => {
    for (const prefer of ['workload', 'completion'] as const) {
      const said = ask(afterForecasts([9000, 5000, 2900], 4000), { prefer, abortAboveMs: 500 });
      expect(said).toBe(
        'continue: forecast 2.90 s is above the limit of 300 ms, but it is improving',
      );
    }
  });

  test('a late improvement starts the patience anew', () => {
    const forecasts = [...flat(2900, 5), 2000];
    expect(ask(afterForecasts(forecasts, 2800))).toMatch(/^continue: .* but it is improving$/);
  });

  test('a dirty rate above the drain rate proves nothing', () => {
    const stats = afterForecasts([2900, 1500], 2800, { dirtyRate: 1e6 });
    expect(ask(stats)).toMatch(/^continue/);
  });

  test('fixed costs that no round can shrink are not waited for', () => {
    const stats = afterForecasts([2050], 1000, { estimate: estimate(2050, 2000) });
    expect(ask(stats)).toBe(
      'abort: device state, handover and verification alone take 2.00 s, above the 300 ms allowed; no round can shorten that; a limit of 2255 ms would have been enough',
    );
    expect(ask(stats, { prefer: 'completion' })).toMatch(/^continue/);
  });
});

describe('when time is up', () => {
  const inRound = (expected: number, elapsedMs: number) =>
    afterForecasts([expected], 1000, { when: 'in-round', dirtyCount: -1, elapsedMs });

  test.each([
    [9_749, 'workload', undefined, /^continue/],
    [9_750, 'workload', undefined, /^abort: 9.75 s of the 10.00 s of --timeout are used; the best/],
    [8_999, 'completion', undefined, /^continue/],
    [
      9_000,
      'completion',
      undefined,
      /^stop-and-copy: .* completion is preferred; forecast 1.00 s$/,
    ],
    [9_200, 'completion', 800, /^abort: .* is above the 800 ms of --abort-above$/],
    [99_000, 'completion', undefined, /^stop-and-copy/],
  ] as const)(
    '%d ms, prefer %s, abort above %s: forecast 1 s',
    (ms, prefer, abortAboveMs, said) => {
      expect(ask(inRound(1000, ms), { timeoutMs: 10_000, prefer, abortAboveMs })).toMatch(said);
    },
  );

  test('workload: a suspension that fits and still ends in time is taken, a later one is not', () => {
    expect(ask(inRound(250, 9_800), { timeoutMs: 10_000 })).toMatch(/^stop-and-copy/);
    expect(ask(inRound(250, 10_000), { timeoutMs: 10_000 })).toBe(
      'abort: 10.00 s of the 10.00 s of --timeout are used: too late for a suspension, though the forecast is 250 ms',
    );
  });

  test('without a forecast only completion without a ceiling goes on', () => {
    const stats = { ...inRound(1000, 10_000), estimate: undefined };
    expect(ask(stats, { timeoutMs: 10_000 })).toMatch(/^abort/);
    expect(ask(stats, { timeoutMs: 10_000, prefer: 'completion' })).toMatch(/^stop-and-copy/);
    const ceiling = { timeoutMs: 10_000, prefer: 'completion', abortAboveMs: 500 } as const;
    expect(ask(stats, ceiling)).toMatch(/^abort/);
  });
});

describe('on a cutover', () => {
  const ordered = (expected: number, more: Partial<PrecopyStats> = {}) =>
    afterForecasts([expected], 1000, { cutoverRequested: true, ...more });

  const waits = 'it waits while rounds shorten the forecast';

  test.each([
    [200, undefined, 'stop-and-copy: cutover requested; forecast 200 ms (180 ms to 220 ms)'],
    [
      900,
      undefined,
      `continue: cutover requested, but the forecast is 900 ms (810 ms to 990 ms) and takes a limit of 900 ms, not 300 ms: it would be rolled back; ${waits}`,
    ],
    [
      900,
      500,
      `continue: cutover requested, but the forecast is 900 ms (810 ms to 990 ms), above the 500 ms of --abort-above; ${waits}`,
    ],
  ])('forecast %d ms, abort above %s', (expected, abortAboveMs, said) => {
    expect(ask(ordered(expected), { abortAboveMs })).toBe(said);
    expect(ask(ordered(expected, { when: 'in-round' }), { abortAboveMs })).toBe(said);
    const forced = ordered(expected, { cutoverForced: true });
    expect(ask(forced, { abortAboveMs })).toMatch(/^stop-and-copy: cutover forced; forecast/);
  });

  test('with completion preferred only abort-above is enforced', () => {
    expect(ask(ordered(900), { prefer: 'completion' })).toMatch(/^stop-and-copy/);
  });

  test('before any forecast it waits, unless it is forced', () => {
    const stats = ordered(900, { when: 'in-round', estimate: undefined });
    expect(ask(stats)).toBe('continue: cutover requested; it waits for the first forecast');
    expect(ask({ ...stats, cutoverForced: true })).toMatch(/^stop-and-copy/);
  });
});

describe('while it is held', () => {
  const hold = { opensMs: 3_600_000, closesMs: UNKNOWN };

  test('a guest that is ready is not moved, and says for how long', () => {
    expect(ask(afterForecasts([12], 1000, { hold }))).toBe(
      'hold: ready, forecast 12 ms (11 ms to 13 ms); held for another 1 h 00 m',
    );
  });

  test('an order ends the hold', () => {
    const ordered = afterForecasts([12], 1000, { hold, cutoverRequested: true });
    expect(ask(ordered)).toMatch(/^stop-and-copy: cutover requested/);
  });

  test.each([
    ['rounds that shorten the forecast', [2000, 900], 'continue'],
    ['rounds that do not', [900, 900], 'hold'],
  ])('a guest that is not ready, after %s', (_, forecasts, action) => {
    const stats = afterForecasts(forecasts, 1000, { hold, dirtyRate: 90_000 });
    expect(ask(stats)).toMatch(new RegExp(`^${action}: `));
  });

  test('after it the patience is that of the beginning', () => {
    const stats = afterForecasts(flat(900, 60), 60_000, { sinceHeldMs: 1000 });
    expect(ask(stats)).toMatch(/^continue: forecast 900 ms is above the limit/);
    expect(ask({ ...stats, sinceHeldMs: undefined })).toMatch(/^abort: /);
  });

  test('a window is too short for the suspension', () => {
    const closing = { opensMs: 0, closesMs: 10 };
    expect(ask(afterForecasts([12], 1000, { hold: closing }))).toMatch(/^hold: /);
  });
});

describe('whatever it is shown', () => {
  const ms = fc.double({ min: 0.1, max: 1e6, noNaN: true });
  const maybeMs = fc.option(ms, { nil: undefined });
  const anyEstimate = fc
    .tuple(ms, ms, ms, ms, ms, ms)
    .map(([reserve, ...all]) => ({ reserve, all: all.toSorted((x, y) => x - y) }))
    .map(({ reserve, all: [after, fixed, low, expected, high] }) => ({
      ...{ after, fixed, low, expected, high, reserve },
    })) as fc.Arbitrary<Estimate>;
  const anyRound = fc.record({
    round: fc.nat(1000),
    dirtyPages: fc.nat(1e6),
    dirtiedPages: fc.nat(1e6),
    ms,
    estimateMs: fc.oneof(ms, fc.constant(-1)),
  });
  const anyStats: fc.Arbitrary<PrecopyStats> = fc
    .record({
      when: fc.constantFrom('before-round' as const, 'in-round' as const, 'after-round' as const),
      iteration: fc.nat(1000),
      totalPages: fc.integer({ min: 1, max: 2 ** 32 }),
      totalWritten: fc.nat(),
      dirtyCount: fc.oneof(fc.nat(1e6), fc.constant(0)),
      elapsedMs: ms,
      wireBytes: fc.nat(),
      drainRate: fc.double({ min: 0, max: 1e10, noNaN: true }),
      dirtyRate: fc.double({ min: -1, max: 1e7, noNaN: true }),
      estimate: fc.option(anyEstimate, { nil: undefined }),
      history: fc.array(anyRound, { maxLength: 64 }),
      cutoverRequested: fc.boolean(),
    })
    .map((stats) => (stats.when === 'before-round' ? stats : { ...stats, dirtyCount: UNKNOWN }));
  const anyLimits: fc.Arbitrary<PolicyLimits> = fc.record({
    maxSuspendMs: maybeMs,
    timeoutMs: maybeMs,
    prefer: fc.constantFrom('workload', 'completion'),
    pauseBelowMs: maybeMs,
    abortAboveMs: maybeMs,
    maxIters: fc.nat(100),
    minRemaining: fc.nat(1000),
  });
  const always = (check: (stats: PrecopyStats, limits: PolicyLimits) => void) =>
    fc.assert(fc.property(anyStats, anyLimits, check), { numRuns: 3000 });

  test('it answers with a known action and a sentence without broken numbers, twice the same', () => {
    always((stats, limits) => {
      const verdict = contractPolicy(stats, limits);
      expect(['continue', 'stop-and-copy', 'abort']).toContain(verdict.action);
      expect(verdict.reason).toMatch(/^\S.{10,}$/);
      expect(verdict.reason).not.toMatch(/NaN|Infinity|undefined|-\d/);
      expect(contractPolicy(structuredClone(stats), limits)).toEqual(verdict);
    });
  });

  test('it never pauses above abort-above', () => {
    always((stats, limits) => {
      if (contractPolicy(stats, limits).action !== 'stop-and-copy') return;
      expect(stats.estimate?.expected ?? 0).toBeLessThanOrEqual(limits.abortAboveMs ?? Infinity);
    });
  });

  test('with prefer workload it never pauses above the limit unless ordered to', () => {
    always((stats, limits) => {
      if (limits.prefer !== 'workload' || stats.cutoverRequested) return;
      if (contractPolicy(stats, limits).action !== 'stop-and-copy') return;
      expect(stats.estimate?.expected ?? 0).toBeLessThanOrEqual(limits.maxSuspendMs ?? Infinity);
    });
  });

  test('with prefer completion and no ceiling it never aborts', () => {
    always((stats, limits) => {
      const open: PolicyLimits = { ...limits, prefer: 'completion', abortAboveMs: undefined };
      expect(contractPolicy(stats, open).action).not.toBe('abort');
    });
  });
});
