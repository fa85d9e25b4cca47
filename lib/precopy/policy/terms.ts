import type { PolicyLimits } from '../stats.ts';

/** A forecast that far above what is allowed does not get there by luck (VEP 248, 1.5). */
export const HOPELESS_FACTOR = 1.5;

/** The limits as thresholds on the forecast, ms; Infinity where there is none. */
export interface Terms {
  readonly limits: PolicyLimits;
  readonly workloadFirst: boolean;
  readonly pauseBelow: number;
  /** The longest suspension that keeps the promise. */
  readonly allowed: number;
  readonly abortAbove: number;
  /** Above this, waiting is hopeless. */
  readonly hopeless: number;
}

export function termsOf(limits: PolicyLimits): Terms {
  const abortAbove = limits.abortAboveMs ?? Number.POSITIVE_INFINITY;
  const allowed = Math.min(limits.maxSuspendMs ?? Number.POSITIVE_INFINITY, abortAbove);
  const workloadFirst = limits.prefer === 'workload';
  const ceiling = workloadFirst ? allowed : abortAbove;
  return {
    limits,
    workloadFirst,
    pauseBelow: Math.min(limits.pauseBelowMs ?? allowed, ceiling),
    allowed,
    abortAbove,
    hopeless: Math.max(allowed, limits.abortAboveMs ?? allowed * HOPELESS_FACTOR),
  };
}
