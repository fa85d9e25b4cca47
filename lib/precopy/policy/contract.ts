import { UNDIVIDED } from '../fit.ts';
import { isHeld } from '../hold.ts';
import { type Estimate, type Policy, type PrecopyStats, UNKNOWN, type Verdict } from '../stats.ts';
import { keepReady, onHold } from './hold.ts';
import { onCutover, onTimeUp } from './orders.ts';
import { HOPELESS_FACTOR, type Terms, termsOf } from './terms.ts';
import {
  acceptableAfter,
  atLocalMinimum,
  patienceMs,
  stalledFor,
  type Trend,
  trendOf,
} from './trend.ts';
import {
  abort,
  above,
  beyond,
  enough,
  goOn,
  pause,
  range,
  text,
  tooLong,
  withinLimit,
} from './wording.ts';

/** How much longer than a hopeless case a near miss is waited for. */
const NEAR_MISS_PATIENCE = 4;
/** An acceptable forecast is not held back longer than this for a better one. */
const SETTLE_MS = 2000;
/** "Becoming idle": a round leaves at most this share of what it set out with. */
const SUBSTANTIAL_FALL = 0.8;
/** Another round is not worth a gain smaller than this. */
const WORTHWHILE_MS = 5;

/**
 * The default policy: a promise about the suspension, kept as follows.
 *
 * - **May pause** at or below `--pause-below` (by default the suspension limit), judged by the high
 *   end of the forecast. While the guest is becoming idle it goes on all the same, because each
 *   short round makes the suspension shorter, and stops as soon as a round gains nothing.
 * - **Never pauses** above `--abort-above`. The question is asked when the decision is due (no
 *   better moment came, time is up, cutover ordered), not while the first rounds still shrink.
 * - **In between** it waits for a local minimum: the forecast has stopped getting better, and is as
 *   low as it has been. If it fits the suspension limit then, it pauses. If not, `prefer workload`
 *   aborts and `prefer completion` pauses. From here on the expected forecast counts: the enforced
 *   limit guards against the rest.
 * - **Gives up early** when a patience window brought nothing better and the best forecast is far
 *   (half as much again, or beyond `--abort-above`) above what is allowed, or when the costs that
 *   no round can shrink are already that far above. A near miss is waited for longer.
 * - **`--timeout`** covers the whole move, so the decision falls when a suspension begun now would
 *   just end in time: pause if the forecast fits, else abort (workload) or pause (completion).
 * - **A cutover** is an order: it is followed as soon as the forecast says that the suspension will
 *   not be rolled back, or with force at once.
 * - **A hold** comes before all that: the guest is kept ready and not moved (see `onHold`). In a
 *   window the policy does not give up, but waits for a better moment until the window ends.
 *
 * A dirty rate above the drain rate proves nothing by itself and is not looked at: what counts is
 * what each round really left.
 */
export const contractPolicy: Policy = (stats, limits) => {
  const terms = termsOf(limits, stats.estimate ?? UNDIVIDED);
  const { allowed } = terms;
  if (isHeld(stats)) return onHold(stats, allowed, limits.timeoutMs)!;
  const order = onTimeUp(stats, terms) ?? onCutover(stats, limits);
  if (order !== undefined) return order;
  if (stats.when === 'after-round' || stats.when === 'in-round') return betweenSyncs(stats);
  const verdict = atSync(stats, terms);
  return inWindow(stats, terms, verdict);
};

/** A window is the time to wait for a good moment in, and a suspension has to end in it. */
function inWindow(stats: PrecopyStats, { allowed }: Terms, verdict: Verdict): Verdict {
  const closesMs = stats.hold?.closesMs ?? UNKNOWN;
  if (closesMs === UNKNOWN) return verdict;
  const left = `the window is open for another ${text(closesMs)}`;
  const tooLate = verdict.action === 'stop-and-copy' && (stats.estimate?.high ?? 0) >= closesMs;
  return tooLate || verdict.action === 'abort'
    ? keepReady(stats, allowed, `waiting for a better moment, and ${left}`)
    : verdict;
}

function betweenSyncs({ when, iteration, estimate }: PrecopyStats): Verdict {
  if (when === 'after-round') {
    return goOn(`round ${iteration} is sent; the next sync tells what the guest dirtied meanwhile`);
  }
  const now = estimate === undefined ? 'no forecast yet' : `forecast ${range(estimate)} if stopped`;
  return goOn(`round ${iteration + 1} is running; ${now}`);
}

/** The dirty set is known: the place where everything but orders is decided. */
function atSync(stats: PrecopyStats, terms: Terms): Verdict {
  const { iteration, dirtyCount, totalPages, estimate } = stats;
  if (iteration === 0) return goOn(`nothing is sent yet: all ${totalPages} pages are to go`);
  if (dirtyCount === 0 && estimate === undefined) return pause('no page is left to send');
  if (estimate === undefined) return goOn(`${dirtyCount} pages are dirty; no forecast yet`);
  const trend = trendOf(stats);
  if (estimate.high <= terms.pauseBelow) return low(stats, estimate, terms, trend);

  const tooDear = fixedTooDear(estimate, terms, trend);
  if (tooDear !== undefined) return tooDear;
  if (estimate.expected <= terms.allowed) return fitting(stats, estimate, terms, trend);
  return terms.workloadFirst
    ? tooLongForWorkload(stats, estimate, terms, trend)
    : tooLongForNow(stats, estimate, terms, trend);
}

/** Below the lower threshold: pause, unless the guest is becoming idle. */
function low(stats: PrecopyStats, estimate: Estimate, terms: Terms, trend: Trend): Verdict {
  const { limits, limit } = terms;
  const before = stats.history.at(-1)?.dirtyPages ?? 0;
  const gain = estimate.expected - estimate.fixed;
  // The next round takes about as long as sending its pages while suspended would.
  const endsInTime = stats.elapsedMs + gain + estimate.high < (limits.timeoutMs ?? Infinity);
  const falling = stats.dirtyCount <= before * SUBSTANTIAL_FALL;
  if (falling && gain > WORTHWHILE_MS && endsInTime && !hasSettled(stats, estimate, terms, trend)) {
    return goOn(
      `forecast ${range(estimate)} would do, but the guest is becoming idle (${before} to ${stats.dirtyCount} pages in a round): another round shortens it`,
    );
  }
  return pause(`forecast ${range(estimate)} is ${withinLimit(limits.pauseBelowMs ?? limit)}`);
}

/** What no round can shrink is already far beyond what is allowed: no reason to wait. */
function fixedTooDear(estimate: Estimate, terms: Terms, { bestMs }: Trend): Verdict | undefined {
  const { fixed } = estimate;
  const bound = terms.workloadFirst ? terms.hopeless : terms.ceiling * HOPELESS_FACTOR;
  if (fixed <= bound) return undefined;
  const enoughMs = enough(estimate, Math.min(bestMs, estimate.expected));
  const reason = `device state, handover and verification alone take ${text(fixed)}, above the ${text(terms.workloadFirst ? terms.limit : terms.ceiling)} allowed; no round can shorten that; a limit of ${enoughMs} ms would have been enough`;
  return { ...abort(reason), enoughMs };
}

/** Fits the limit but not the lower threshold: wait a little for a local minimum. */
function fitting(stats: PrecopyStats, estimate: Estimate, terms: Terms, trend: Trend): Verdict {
  if (hasSettled(stats, estimate, terms, trend)) {
    return pause(
      `forecast ${range(estimate)} no longer improves (best ${text(trend.bestMs)}) and is ${withinLimit(terms.limit)}`,
    );
  }
  return goOn(`forecast ${range(estimate)} is ${withinLimit(terms.limit)}, but may still improve`);
}

/** A local minimum, or waited for long enough. */
function hasSettled(
  stats: PrecopyStats,
  { expected }: Estimate,
  { limits }: Terms,
  trend: Trend,
): boolean {
  const atMinimum = stalledFor(trend, SETTLE_MS) && atLocalMinimum(trend, expected);
  return atMinimum || stalledFor(trend, patienceMs(stats, limits));
}

function tooLongForWorkload(
  stats: PrecopyStats,
  estimate: Estimate,
  terms: Terms,
  trend: Trend,
): Verdict {
  const patience = patienceMs(stats, terms.limits);
  const best = Math.min(trend.bestMs, estimate.expected);
  const hopeless = best > terms.hopeless;
  const window = hopeless ? patience : patience * NEAR_MISS_PATIENCE;
  if (!stalledFor(trend, window)) return wait(estimate, terms, trend, window);
  const waited = `nothing better in ${text(trend.sinceBetterMs)} (${trend.roundsSinceBetter} rounds)`;
  return tooLong(waited, estimate, best, terms);
}

/** Completion is preferred: break the promise, but at the best moment, and below abort-above. */
function tooLongForNow(
  stats: PrecopyStats,
  estimate: Estimate,
  terms: Terms,
  trend: Trend,
): Verdict {
  const patience = patienceMs(stats, terms.limits);
  if (!stalledFor(trend, patience)) return wait(estimate, terms, trend, patience);
  const forecast = estimate.expected;
  const acceptable = acceptableAfter(trend, patience);
  if (forecast > terms.ceiling) {
    const best = Math.min(trend.bestMs, forecast);
    if (best <= terms.ceiling && acceptable < forecast) return waitForMinimum(forecast, best);
    const enoughMs = enough(estimate, best);
    const reason = `nothing better in ${text(trend.sinceBetterMs)} and the forecast of ${text(forecast)} is ${beyond(forecast, terms)}; ${enoughMs} ms would have been enough`;
    return { ...abort(reason), enoughMs };
  }
  if (forecast > acceptable) return waitForMinimum(forecast, trend.bestMs);
  return pause(
    `nothing better than ${text(trend.bestMs)} in ${text(trend.sinceBetterMs)}: the forecast of ${text(forecast)} is above the limit of ${text(terms.limit)}, but completion is preferred`,
  );
}

function wait({ expected }: Estimate, terms: Terms, trend: Trend, windowMs: number): Verdict {
  const forecast = `forecast ${text(expected)} is ${above(expected, terms)}`;
  if (trend.roundsSinceBetter === 0) return goOn(`${forecast}, but it is improving`);
  return goOn(
    `${forecast}; best ${text(trend.bestMs)}, waited ${text(trend.sinceBetterMs)} of ${text(windowMs)} for a better moment`,
  );
}

function waitForMinimum(forecast: number, best: number): Verdict {
  return goOn(`forecast ${text(forecast)}; waiting for a moment as good as the ${text(best)} seen`);
}
