import { formatDuration } from '../../units.ts';
import { enoughFor } from '../fit.ts';
import type { Estimate, Verdict } from '../stats.ts';
import type { Terms } from './terms.ts';

export function goOn(reason: string): Verdict {
  return { action: 'continue', reason };
}

/** Nothing is to be gained by a round now. */
export function hold(reason: string): Verdict {
  return { action: 'hold', reason };
}

export function pause(reason: string): Verdict {
  return { action: 'stop-and-copy', reason };
}

export function abort(reason: string): Verdict {
  return { action: 'abort', reason };
}

export function text(ms: number): string {
  return formatDuration(ms);
}

export function range({ low, expected, high }: Estimate): string {
  return `${text(expected)} (${text(low)} to ${text(high)})`;
}

export function withinLimit(ms: number): string {
  return ms === Number.POSITIVE_INFINITY
    ? 'acceptable, since no limit is set'
    : `within the ${text(ms)} allowed`;
}

/** Of a forecast that is too long: "above the limit of 300 ms". */
export function above(forecast: number, { allowed, limit }: Terms): string {
  return forecast > limit
    ? `above the limit of ${text(limit)}`
    : `above the ${text(allowed)} that fit the limit of ${text(limit)}`;
}

/** Likewise, where completion is preferred: "above the 2.00 s of --abort-above". */
export function beyond(forecast: number, { ceiling, limits }: Terms): string {
  const { abortAboveMs = Number.POSITIVE_INFINITY } = limits;
  return forecast > abortAboveMs
    ? `above the ${text(abortAboveMs)} of --abort-above`
    : `above the ${text(ceiling)} that fit the ${text(abortAboveMs)} of --abort-above`;
}

/**
 * Ends the attempt because the forecast is above what is allowed, and says what would have helped.
 * @param why what it comes to besides, as far as the semicolon
 * @param best the lowest forecast seen
 */
export function tooLong(why: string, estimate: Estimate, best: number, terms: Terms): Verdict {
  const { allowed } = terms;
  const forecast = text(estimate.expected);
  if (best <= allowed) {
    const enoughMs = Math.max(enough(estimate, best), enoughFor(estimate.expected, estimate));
    const reason = `${why}; the forecast of ${forecast} is ${above(estimate.expected, terms)}, though it had been as low as ${text(best)}; a limit of ${enoughMs} ms would have been enough`;
    return { ...abort(reason), enoughMs };
  }
  const enoughMs = enough(estimate, best);
  const reason = `${why}; the best forecast seen, ${text(best)}, is ${above(best, terms)}; a limit of ${enoughMs} ms would have been enough`;
  return { ...abort(reason), enoughMs };
}

/** The limit with which the best forecast would have fitted at the high end of its band, ms. */
export function enough(estimate: Estimate, best: number): number {
  const { expected, high } = estimate;
  return enoughFor(best * Math.max(1, high / expected), estimate);
}
