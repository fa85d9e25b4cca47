import { cutoverObjection } from '../cutover.ts';
import type { PolicyLimits, PrecopyStats, Verdict } from '../stats.ts';
import type { Terms } from './terms.ts';
import { trendOf } from './trend.ts';
import { abort, beyond, goOn, pause, range, text, tooLong, withinLimit } from './wording.ts';

/** A policy is asked at least so often, ms. */
const ASKED_EVERY_MS = 250;

/** Undefined while a suspension begun now would end well within `--timeout`. */
export function onTimeUp(stats: PrecopyStats, terms: Terms): Verdict | undefined {
  const { timeoutMs } = terms.limits;
  if (timeoutMs === undefined) return undefined;
  const { elapsedMs, estimate } = stats;
  const forecast = estimate?.expected;
  if (elapsedMs + neededMs(forecast, terms) < timeoutMs) return undefined;

  const time = `${text(elapsedMs)} of the ${text(timeoutMs)} of --timeout are used`;
  return terms.workloadFirst
    ? onTimeUpForWorkload(time, stats, terms)
    : onTimeUpForCompletion(time, forecast, terms);
}

/**
 * What has to be left of the time for a suspension. One that does not fit is waited for until the next
 * question would come too late, whatever the limit: a longer one must not give up sooner.
 */
function neededMs(forecast: number | undefined, terms: Terms): number {
  if (forecast === undefined) return 0;
  if (!terms.workloadFirst) return Math.min(forecast, terms.ceiling);
  return forecast <= terms.allowed ? forecast : ASKED_EVERY_MS;
}

/** It never forces a suspension, but one that fits and still ends in time is welcome. */
function onTimeUpForWorkload(time: string, stats: PrecopyStats, terms: Terms): Verdict {
  const { estimate } = stats;
  if (estimate === undefined) return abort(`${time} and no forecast was possible yet`);
  const forecast = estimate.expected;
  if (forecast > terms.allowed)
    return tooLong(time, estimate, Math.min(forecast, trendOf(stats).bestMs), terms);
  return stats.elapsedMs < terms.limits.timeoutMs!
    ? pause(`${time} and the forecast of ${text(forecast)} is ${withinLimit(terms.limit)}`)
    : abort(`${time}: too late for a suspension, though the forecast is ${text(forecast)}`);
}

function onTimeUpForCompletion(time: string, forecast: number | undefined, terms: Terms): Verdict {
  if (forecast === undefined) {
    return terms.ceiling === Number.POSITIVE_INFINITY
      ? pause(`${time} and completion is preferred; no forecast was possible yet`)
      : abort(`${time} and no forecast was possible yet, which --abort-above would need`);
  }
  return forecast > terms.ceiling
    ? abort(`${time} and the forecast of ${text(forecast)} is ${beyond(forecast, terms)}`)
    : pause(`${time} and completion is preferred; forecast ${text(forecast)}`);
}

/**
 * The operator's order. By its forecast a suspension must do, unless the order is forced; without
 * one the order waits for the first, a round at most. An order that finds a longer forecast than
 * when it was accepted waits while rounds still shorten it; then the loop takes it away.
 */
export function onCutover(stats: PrecopyStats, limits: PolicyLimits): Verdict | undefined {
  const { cutoverRequested, cutoverForced, estimate } = stats;
  if (!cutoverRequested) return undefined;
  const forecast = estimate === undefined ? 'no forecast yet' : `forecast ${range(estimate)}`;
  if (cutoverForced) return pause(`cutover forced; ${forecast}`);
  if (estimate === undefined) return goOn('cutover requested; it waits for the first forecast');
  const objection = cutoverObjection(estimate, limits);
  return objection === undefined
    ? pause(`cutover requested; ${forecast}`)
    : goOn(`cutover requested, but ${objection.why}; it waits while rounds shorten the forecast`);
}
