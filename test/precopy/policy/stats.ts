import type {
  Estimate,
  PolicyLimits,
  PrecopyStats,
  RoundStats,
} from '../../../lib/precopy/stats.ts';

export const LIMITS: PolicyLimits = {
  maxSuspendMs: 300,
  timeoutMs: undefined,
  prefer: 'workload',
  pauseBelowMs: undefined,
  abortAboveMs: undefined,
  maxIters: 5,
  minRemaining: 50,
};

const FIXED = 10;

export function estimate(expected: number, fixed = FIXED): Estimate {
  return { low: expected * 0.9, expected, high: expected * 1.1, fixed, after: 0, reserve: 0 };
}

/** Statistics at the sync after rounds that left these forecasts, each round `ms` long. */
export function afterForecasts(
  forecasts: readonly number[],
  ms: number,
  more: Partial<PrecopyStats> = {},
): PrecopyStats {
  const pages = (forecast: number) => Math.round((forecast - FIXED) * 100);
  const history: RoundStats[] = forecasts.map((estimateMs, i) => ({
    round: i + 1,
    dirtyPages: i === 0 ? 131_072 : pages(forecasts[i - 1]!),
    dirtiedPages: pages(estimateMs),
    ms,
    estimateMs,
  }));
  const last = forecasts.at(-1);
  return {
    when: 'before-round',
    iteration: forecasts.length,
    totalPages: 131_072,
    totalWritten: 131_072,
    dirtyCount: last === undefined ? 131_072 : pages(last),
    elapsedMs: forecasts.length * ms,
    wireBytes: 0,
    drainRate: 400e6,
    dirtyRate: 1000,
    estimate: last === undefined ? undefined : estimate(last),
    history: history.slice(-64),
    cutoverRequested: false,
    ...more,
  };
}
