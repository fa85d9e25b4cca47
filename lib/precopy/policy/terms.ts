import { type Division, longestEnforced } from '../fit.ts';
import type { PolicyLimits } from '../stats.ts';

/** A forecast that far above what is allowed does not get there by luck (VEP 248, 1.5). */
export const HOPELESS_FACTOR = 1.5;

/** The limits as thresholds on the forecast, ms; Infinity where there is none. */
export interface Terms {
  readonly limits: PolicyLimits;
  readonly workloadFirst: boolean;
  readonly pauseBelow: number;
  /** The longest suspension that keeps the promise, and is not rolled back. */
  readonly allowed: number;
  /** The limit that is behind `allowed`, as the operator knows it. */
  readonly limit: number;
  /** Above this forecast the guest is never suspended. */
  readonly ceiling: number;
  /** Above this, waiting is hopeless. */
  readonly hopeless: number;
}

/** @param division of the forecast that is judged; what lies behind the deadline is not there for it */
export function termsOf(limits: PolicyLimits, division: Division): Terms {
  const abortAbove = limits.abortAboveMs ?? Number.POSITIVE_INFINITY;
  const limit = Math.min(limits.maxSuspendMs ?? Number.POSITIVE_INFINITY, abortAbove);
  const workloadFirst = limits.prefer === 'workload';
  // Where completion is preferred, --abort-above is what is enforced.
  const enforced = Math.min(longestEnforced(limits, division), abortAbove);
  const allowed = workloadFirst ? enforced : Math.min(enforced, limit);
  return {
    limits,
    workloadFirst,
    pauseBelow: Math.min(limits.pauseBelowMs ?? allowed, enforced),
    allowed,
    limit,
    ceiling: workloadFirst ? abortAbove : enforced,
    hopeless: Math.max(allowed, limits.abortAboveMs ?? allowed * HOPELESS_FACTOR),
  };
}
