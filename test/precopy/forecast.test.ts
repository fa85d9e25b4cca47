import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lessonsFor } from '../../lib/precopy/calibration.ts';
import { suspensionCosts } from '../../lib/precopy/costs.ts';
import { type ForecastBasis, forecastMove } from '../../lib/precopy/forecast.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import { GUESSED_PACE } from '../../lib/precopy/pace.ts';
import { contractPolicy } from '../../lib/precopy/policy/contract.ts';
import { xenPolicy } from '../../lib/precopy/policy/xen.ts';
import { type GuestProfile, pagesWithin, type WindowPages } from '../../lib/precopy/profile.ts';

const TOTAL = 262_144;
const WINDOWS = [100, 300, 1000, 3000, 10_000, 30_000];
const RUNS = { seed: Number(process.env.SEED ?? Date.now() % 1e9), numRuns: 60 };

/** Pages written evenly over a working set, so many a second, as a profile sees them. */
function hotSet(perSecond: number, pages: number): WindowPages[] {
  return WINDOWS.map((windowMs) => {
    const written = (perSecond * windowMs) / 1000;
    const dirty = pages === 0 ? 0 : Math.round(pages * (1 - Math.exp(-written / pages)));
    return { windowMs, pages: dirty, high: Math.round(dirty * 1.1) };
  });
}

function profileOf(workingSet: WindowPages[], over: Partial<GuestProfile> = {}): GuestProfile {
  return {
    ...{ guest: 'vm1', time: '2026-01-02T03:04:05.000Z', ms: 60_000, totalPages: TOTAL },
    ...{ workingSet, zeroShare: 0, compressedShare: 1, ...over },
  };
}

const NOTHING = lessonsFor(
  {
    ...{ guest: 'vm1', hypervisor: 'simulated', deviceModel: 'm', peer: 'hostb:7070' },
    ...{ totalPages: TOTAL, deviceStateBytes: undefined },
  },
  [],
);

function basis(over: Partial<ForecastBasis> = {}): ForecastBasis {
  const measured = { lanes: 2, syncMs: 1, roundTripMs: 0.5, journalMs: 2, peerJournalMs: 2 };
  return {
    totalPages: TOTAL,
    profile: profileOf(hotSet(5000, 16_384)),
    pace: GUESSED_PACE,
    way: { rate: 120e6, spread: 0.1, lanes: 2, compresses: true },
    costs: suspensionCosts({ totalPages: TOTAL, verifyRate: 0, lessons: NOTHING, ...measured }),
    limits: policyLimits('contract', {}),
    policy: contractPolicy,
    ...over,
  };
}

const curves = fc
  .tuple(fc.integer({ min: 0, max: 100_000 }), fc.integer({ min: 0, max: TOTAL }))
  .map(([perSecond, pages]) => hotSet(perSecond, pages));
const rates = fc.double({ min: 1e6, max: 5e9, noNaN: true });

describe('pages dirtied within a window', () => {
  test('are those of the curve at its points, and between its neighbours elsewhere', () => {
    const curve = [
      { windowMs: 100, pages: 10, high: 20 },
      { windowMs: 300, pages: 20, high: 60 },
    ];
    const at = (ms: number, seen: 'pages' | 'high' = 'pages') => pagesWithin(curve, seen, ms, 1000);
    expect([0, 50, 100, 200, 300].map((ms) => at(ms))).toEqual([0, 5, 10, 15, 20]);
    expect(at(200, 'high')).toBe(40);
    expect(at(500)).toBe(30); // on as between the last two
    expect(at(1e9)).toBe(1000); // all there are
    expect(pagesWithin([], 'pages', 1000, 1000)).toBe(0);
  });

  test('rise with the window, never above all pages, whatever a profile says', () => {
    const point = fc.record({
      pages: fc.integer({ min: 0, max: 2 * TOTAL }),
      high: fc.integer({ min: 0, max: 2 * TOTAL }),
    });
    const anyCurve = fc
      .array(point, { minLength: 1, maxLength: 6 })
      .map((points) => points.map((one, i) => ({ windowMs: WINDOWS[i]!, ...one })));
    const ms = fc.double({ min: 0, max: 1e7, noNaN: true });
    fc.assert(
      fc.property(anyCurve, ms, ms, (curve, a, b) => {
        const [short, long] = [Math.min(a, b), Math.max(a, b)].map((window) =>
          pagesWithin(curve, 'high', window, TOTAL),
        );
        expect(short).toBeGreaterThanOrEqual(0);
        expect(short).toBeLessThanOrEqual(long! + 1e-6);
        expect(long).toBeLessThanOrEqual(TOTAL);
      }),
      RUNS,
    );
  });
});

describe('a move on paper', () => {
  test('of an idle guest is one pass and the fixed part of a suspension', () => {
    const forecast = forecastMove(basis({ profile: profileOf([]) }));
    expect(forecast.verdict).toBe('yes');
    expect(forecast.suspensionMs.high).toBeLessThan(100);
    expect(forecast.totalMs!.low).toBeGreaterThan(forecast.passMs / 1.11);
    expect(forecast.totalMs!.high).toBeLessThan(forecast.passMs * 1.2 + 1000);
    expect(forecast.enoughMs).toBeLessThanOrEqual(100);
  });

  test('of a hot set that the link does not bring over within the limit says what would do', () => {
    const forecast = forecastMove(basis({ profile: profileOf(hotSet(100_000, 65_536)) }));
    expect(forecast).toMatchObject({ verdict: 'no', totalMs: undefined, rounds: undefined });
    expect(forecast.reason).toMatch(/would have been enough/);
    const enough = forecast.enoughMs!;
    const limits = policyLimits('contract', { maxSuspendMs: enough });
    const profile = profileOf(hotSet(100_000, 65_536));
    expect(forecastMove(basis({ profile, limits })).verdict).toBe('yes');
    // The set is bounded: with the whole of it, and a link at its slowest, it is through.
    expect(enough).toBeLessThan(((65_536 * 1.1 * 4096) / (120e6 * 0.9)) * 1000 * 1.2 + 100);
  });

  test('does not take a dirty rate above the link for hopeless: the set is what counts', () => {
    // 400 MB/s are dirtied, 120 MB/s sent, but only ever in 8 MiB.
    const profile = profileOf(hotSet(100_000, 2048));
    expect(forecastMove(basis({ profile })).verdict).toBe('yes');
  });

  test('of a busy guest is over at a higher price where completion is preferred', () => {
    const profile = profileOf(hotSet(100_000, 65_536));
    const limits = policyLimits('contract', { prefer: 'completion' });
    const forecast = forecastMove(basis({ profile, limits }));
    expect(forecast.verdict).toBe('yes');
    expect(forecast.suspensionMs.high).toBeGreaterThan(300);
  });

  test('under xen ends with its iterations, and fails at a limit that is enforced', () => {
    const profile = profileOf(hotSet(100_000, 65_536));
    const xen = (maxSuspendMs?: number) =>
      forecastMove(
        basis({
          profile,
          policy: xenPolicy,
          limits: policyLimits('xen', maxSuspendMs === undefined ? {} : { maxSuspendMs }),
        }),
      );
    expect(xen()).toMatchObject({ verdict: 'yes', rounds: { low: 5, high: 5 } });
    expect(xen(300)).toMatchObject({ verdict: 'no' });
    expect(xen(300).reason).toMatch(/longer than the enforced limit/);
  });

  test('that does not end within --timeout is given up', () => {
    const limits = policyLimits('contract', { timeoutMs: 1000 });
    const forecast = forecastMove(basis({ limits }));
    expect(forecast).toMatchObject({ verdict: 'no', enoughMs: undefined });
    expect(forecast.reason).toMatch(/--timeout/);
  });

  test('of a guest that nobody has looked at is one pass, and what no page changes', () => {
    const forecast = forecastMove(basis({ profile: undefined }));
    expect(forecast).toMatchObject({ verdict: 'unknown', totalMs: undefined, enoughMs: undefined });
    expect(forecast.passMs).toBeCloseTo(((TOTAL * 4096) / 120e6) * 1000);
    const costs = { ...basis().costs, verifyMs: 5000 };
    expect(forecastMove(basis({ profile: undefined, costs })).verdict).toBe('no');
  });

  test('zero pages and content that compresses make a pass shorter', () => {
    const of = (over: Partial<GuestProfile>) =>
      forecastMove(basis({ profile: profileOf([], over) })).passMs;
    expect(of({ zeroShare: 0.5 })).toBeLessThan(of({}) * 0.6);
    expect(of({ compressedShare: 0.5 })).toBeCloseTo(of({}) / 2, 0);
    // A link faster than the compressor is left alone.
    const way = { rate: 900e6, spread: 0.1, lanes: 2, compresses: true };
    const fast = (compressedShare: number) =>
      forecastMove(basis({ way, profile: profileOf([], { compressedShare }) })).passMs;
    expect(fast(0.5)).toBe(fast(1));
  });
});

describe('whatever the guest and the link are', () => {
  test('a faster link never makes a pass longer, the best suspension longer, or a good forecast bad', () => {
    fc.assert(
      fc.property(curves, rates, rates, (workingSet, a, b) => {
        const of = (rate: number) => {
          const way = { rate, spread: 0.1, lanes: 2, compresses: true };
          return forecastMove(basis({ way, profile: profileOf(workingSet) }));
        };
        const [slow, fast] = [of(Math.min(a, b)), of(Math.max(a, b))];
        expect(fast.passMs).toBeLessThanOrEqual(slow.passMs);
        expect(fast.enoughMs).toBeLessThanOrEqual(slow.enoughMs! * 1.1);
        if (slow.verdict === 'yes') expect(fast.verdict).toBe('yes');
      }),
      RUNS,
    );
  });

  test('the limit that is said to do does, and spans are spans', () => {
    fc.assert(
      fc.property(curves, rates, (workingSet, rate) => {
        const way = { rate, spread: 0.1, lanes: 2, compresses: true };
        const given = basis({ way, profile: profileOf(workingSet) });
        const forecast = forecastMove(given);
        for (const span of [forecast.totalMs, forecast.rounds, forecast.suspensionMs])
          if (span !== undefined) expect(span.low).toBeLessThanOrEqual(span.high);
        if (forecast.enoughMs! > 3_600_000) return; // longer than anybody may ask for
        const limits = policyLimits('contract', { maxSuspendMs: forecast.enoughMs! });
        expect(forecastMove({ ...given, limits })).toMatchObject({ verdict: 'yes' });
      }),
      RUNS,
    );
  });

  test('a guest with a hot set sends no more in a suspension than that set', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 1e6 }),
        fc.integer({ min: 0, max: 32_768 }),
        (rate, hot) => {
          const given = basis({ profile: profileOf(hotSet(rate, hot)) });
          const { enoughMs } = forecastMove(given);
          const setMs = ((hot * 1.1 * 4096) / (120e6 * 0.9 * 0.95)) * 1000;
          // Beside the set: the fixed part, what is dirtied while it stops, rounding.
          expect(enoughMs).toBeLessThanOrEqual((setMs + 100) * 1.25 + setMs * 0.2);
        },
      ),
      RUNS,
    );
  });
});
