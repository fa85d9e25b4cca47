import { limitFor } from '../precopy/fit.ts';
import { LIMIT_DURATIONS } from '../precopy/limits.ts';
import { contractPolicy } from '../precopy/policy/contract.ts';
import { HOPELESS_FACTOR } from '../precopy/policy/terms.ts';
import { trendOf } from '../precopy/policy/trend.ts';
import { endsAt, type PrecopyStats, type Verdict } from '../precopy/stats.ts';
import type { Asked } from './asked.ts';

/** A suspension limit that would have been enough. */
export interface SmallestLimit {
  readonly maxSuspendMs: number;
  /** What the guest would have been suspended on. */
  readonly stats: Omit<PrecopyStats, 'history'>;
}

/**
 * The smallest `--max-suspend-time`, in whole milliseconds, with which the contract policy would have
 * suspended the guest at one of these consultations on a forecast within that limit; the other
 * limits are as they were. Undefined when none would have done, and where completion is preferred,
 * since the decision does not depend on it there.
 *
 * From one figure that the policy compares the limit with to the next, every limit gets the same
 * answers: only these figures are tried, each time those that the policy came to see. Time left
 * until `--timeout` is none of them: a limit above it only gives up earlier.
 */
export function smallestLimit(asked: readonly Asked[]): SmallestLimit | undefined {
  if (asked.some(({ limits }) => limits.prefer !== 'workload')) return undefined;
  const { min, max } = LIMIT_DURATIONS.maxSuspendMs;
  const least = asked.reduce((ms, { limits }) => Math.max(ms, limits.pauseBelowMs ?? 0), min);
  const figures = asked.map(compared);
  for (let limit = Math.ceil(least); limit <= max; ) {
    const { seen, action } = decide(asked, limit);
    if (action === 'stop-and-copy') {
      const { history: _, ...stats } = asked[seen - 1]!.stats;
      const { estimate } = stats;
      if (estimate !== undefined && limitFor(estimate.expected, estimate) <= limit)
        return { maxSuspendMs: limit, stats };
    }
    limit = nextAbove(limit, figures.slice(0, seen));
  }
  return undefined;
}

/** The verdict that ends precopy, and how many consultations it took; `continue`: there is none. */
function decide(
  asked: readonly Asked[],
  maxSuspendMs: number,
): { seen: number; action: Verdict['action'] } {
  for (const [before, { stats, limits }] of asked.entries()) {
    const verdict = contractPolicy(stats, { ...limits, maxSuspendMs });
    if (endsAt(verdict, stats.when)) return { seen: before + 1, action: verdict.action };
  }
  return { seen: asked.length, action: 'continue' };
}

/** What the contract policy compares the suspension limit with, ms. */
function compared({ stats, limits }: Asked): number[] {
  const { when, estimate, cutoverRequested } = stats;
  if (estimate === undefined) return [];
  const { expected, high, fixed } = estimate;
  const { bestMs } = trendOf(stats);
  // In between nothing is decided, and the policy is asked about the next round at the most.
  const forecasts =
    when === 'before-round'
      ? [expected, high, bestMs, ...[expected, bestMs, fixed].map((ms) => ms / HOPELESS_FACTOR)]
      : limits.timeoutMs !== undefined || cutoverRequested
        ? [expected]
        : [];
  return forecasts.map((ms) => limitFor(ms, estimate));
}

function nextAbove(limit: number, figures: readonly (readonly number[])[]): number {
  let next = Number.POSITIVE_INFINITY;
  for (const one of figures)
    for (const figure of one) if (figure > limit) next = Math.min(next, Math.ceil(figure));
  return next;
}
