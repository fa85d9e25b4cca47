import { formatDuration } from '../units.ts';
import { limitFor, longestEnforced } from './fit.ts';
import {
  type Estimate,
  enforcedSuspendMs,
  type PolicyLimits,
  type PrecopyStats,
  UNKNOWN,
} from './stats.ts';

/** A round that makes the forecast no shorter than this is none that an order waits for again. */
const BETTER = 0.96;

/** What speaks against a cutover now. */
export interface Objection {
  /** In words. */
  readonly why: string;
  /** The option that would have to be longer. */
  readonly option: string;
}

/** By its forecast; undefined when the suspension would do, or nobody can tell. */
export function cutoverObjection(
  estimate: Estimate | undefined,
  limits: PolicyLimits,
): Objection | undefined {
  if (estimate === undefined) return undefined;
  const { low, expected, high } = estimate;
  const { abortAboveMs } = limits;
  const limitMs = enforcedSuspendMs(limits);
  const forecast = `the forecast is ${formatDuration(expected)} (${formatDuration(low)} to ${formatDuration(high)})`;
  if (abortAboveMs !== undefined && expected > abortAboveMs)
    return {
      why: `${forecast}, above the ${formatDuration(abortAboveMs)} of --abort-above`,
      option: '--abort-above',
    };
  if (limitMs !== undefined && expected > longestEnforced(limits, estimate)) {
    const needed = formatDuration(limitFor(expected, estimate));
    return {
      why: `${forecast} and takes a limit of ${needed}, not ${formatDuration(limitMs)}: it would be rolled back`,
      option: limits.prefer === 'completion' ? '--abort-above' : '--max-suspend-time',
    };
  }
  return undefined;
}

/**
 * Why an accepted order does not stand any more: the dirty set is known, the forecast is too long,
 * and the last round has not made it shorter. Undefined while it stands.
 */
export function cutoverLapse(stats: PrecopyStats, limits: PolicyLimits): string | undefined {
  const { when, cutoverRequested, cutoverForced, estimate, history } = stats;
  if (!cutoverRequested || cutoverForced || when !== 'before-round') return undefined;
  const objection = cutoverObjection(estimate, limits);
  const [before, last] = history.slice(-2);
  if (objection === undefined || before === undefined || last === undefined) return undefined;
  const shorter = before.estimateMs === UNKNOWN || last.estimateMs < before.estimateMs * BETTER;
  return shorter ? undefined : objection.why;
}
