import type { Lessons } from './calibration.ts';
import { LIMIT_DURATIONS } from './limits.ts';
import { type Estimate, enforcedSuspendMs, type PolicyLimits } from './stats.ts';

/*
 * What fits a suspension limit: one idea for the policies, the cutover, the hold, the check, the
 * deadline and the advice to the operator.
 *
 *     0 ── the guest is made ready to be given away ──► deadline ── given away, or recalled ──► limit
 *                                                       └────────── kept free: reserve ───────┘
 *
 * A suspension is rolled back when its source is not ready at the deadline. So a forecast fits when its
 * part before that moment ends by the deadline, and all of it within the limit.
 */

/**
 * Until somebody has measured: from giving the guest away to its first instruction there, ms. Cautious:
 * guests of QEMU under TCG took 24 to 37 ms on a busy machine, by their own clocks.
 */
const TYPICAL_AFTER_CLAIM_MS = 50;
const ROUND_TRIPS_AFTER_CLAIM = 2;
/** Likewise, from telling a hypervisor to run the guest again to its first instruction, ms. */
const TYPICAL_RECALL_MS = 20;
/** Threads are scheduled late. */
const LATE_MS = 5;
/** No two suspensions are alike: a tenth more than what one has needed. */
const SEEN_MARGIN = 1.1;
/** The reserve never takes more than this share of the limit. */
const RESERVE_SHARE = 1 / 2;

/** How a suspension is divided by the deadline, ms; see `Estimate`. */
export type Division = Pick<Estimate, 'after' | 'reserve'>;

/** Where there is no forecast, and where one knows nothing of its deadline (in ledgers of before). */
export const UNDIVIDED: Division = { after: 0, reserve: 0 };

/**
 * What a deadline keeps free of a limit that is large enough, ms: either the guest is given away just
 * before it, or it is recalled. Both were measured on guests like it, or are guessed.
 */
export function reserveMs(
  roundTripMs: number,
  { afterClaimMs, recallMs }: Pick<Lessons, 'afterClaimMs' | 'recallMs'>,
): number {
  const away = afterClaimMs ?? TYPICAL_AFTER_CLAIM_MS + ROUND_TRIPS_AFTER_CLAIM * roundTripMs;
  const back = Math.max(recallMs ?? 0, TYPICAL_RECALL_MS); // few have been recalled
  return Math.max(away, back) + LATE_MS;
}

/** When the source has to be ready to give the guest away, ms since the guest stopped. */
export function deadlineMs(limitMs: number, reserve: number): number {
  return limitMs - Math.min(limitMs * RESERVE_SHARE, reserve);
}

/** The longest suspension that fits a limit, ms. Grows with the limit. */
export function longestWithin(limitMs: number, { after, reserve }: Division): number {
  return Math.min(limitMs, after + deadlineMs(limitMs, reserve));
}

/** The smallest limit that a suspension of that length fits, ms: `longestWithin` the other way round. */
export function limitFor(ms: number, { after, reserve }: Division): number {
  const ready = Math.max(0, ms - after);
  return Math.max(ms, Math.min(ready / (1 - RESERVE_SHARE), ready + reserve));
}

/** The longest forecast with which a suspension keeps the limit that is enforced, ms; Infinity: none is. */
export function longestEnforced(limits: PolicyLimits, division: Division): number {
  return longestWithin(enforcedSuspendMs(limits) ?? Number.POSITIVE_INFINITY, division);
}

/**
 * The limit to advise where a suspension was forecast to need that long: the smallest whole number of
 * milliseconds with which it would have been begun, and not rolled back by the same figures.
 */
export function enoughFor(ms: number, division: Division): number {
  const least = Math.max(LIMIT_DURATIONS.maxSuspendMs.min, Math.ceil(limitFor(ms, division)));
  return ms <= longestWithin(least, division) ? least : least + 1; // an error in the last digit
}

/** Likewise, where one has needed that long, or would have when it was given up. */
export function enoughAfter(ms: number, division: Division): number {
  return enoughFor(ms * SEEN_MARGIN, division);
}
