import { formatDuration } from '../../units.ts';
import type { Estimate, Verdict } from '../stats.ts';

/** Added to the best forecast when the operator is told which limit would have been enough. */
const ENOUGH_FACTOR = 1.1;

export function goOn(reason: string): Verdict {
  return { action: 'continue', reason };
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

/** Why a forecast above what is allowed ends the attempt, and what would have helped. */
export function shortfall(forecast: number, best: number, allowed: number): string {
  return best > allowed
    ? `the best forecast seen, ${text(best)}, is above the limit of ${text(allowed)}; a limit of ${enough(best)} would have been enough`
    : `the forecast of ${text(forecast)} is above the limit of ${text(allowed)}, though it had been as low as ${text(best)}`;
}

/** The best forecast with a margin, rounded up to two digits so that it reads as advice. */
export function enough(best: number): string {
  const ms = Math.round(best * ENOUGH_FACTOR);
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, ms))) - 1);
  return text(Math.ceil(ms / step) * step);
}
