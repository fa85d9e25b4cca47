import type { PrecopyStats, Verdict } from '../stats.ts';
import type { Terms } from './terms.ts';
import { trendOf } from './trend.ts';
import { abort, goOn, pause, range, shortfall, text, withinLimit } from './wording.ts';

/** Undefined while a suspension begun now would end well within `--timeout`. */
export function onTimeUp(stats: PrecopyStats, terms: Terms): Verdict | undefined {
  const { timeoutMs } = terms.limits;
  if (timeoutMs === undefined) return undefined;
  const { elapsedMs, estimate } = stats;
  const forecast = estimate?.expected;
  const longest = terms.workloadFirst ? terms.allowed : terms.abortAbove;
  const reserve = forecast === undefined ? 0 : Math.min(forecast, longest);
  if (elapsedMs + reserve < timeoutMs) return undefined;

  const time = `${text(elapsedMs)} of the ${text(timeoutMs)} of --timeout are used`;
  return terms.workloadFirst
    ? onTimeUpForWorkload(time, stats, terms)
    : onTimeUpForCompletion(time, forecast, terms);
}

/** It never forces a suspension, but one that fits and still ends in time is welcome. */
function onTimeUpForWorkload(
  time: string,
  stats: PrecopyStats,
  { limits, allowed }: Terms,
): Verdict {
  const forecast = stats.estimate?.expected;
  if (forecast === undefined) return abort(`${time} and no forecast was possible yet`);
  if (forecast > allowed) {
    const best = Math.min(forecast, trendOf(stats).bestMs);
    return abort(`${time}; ${shortfall(forecast, best, allowed)}`);
  }
  return stats.elapsedMs < limits.timeoutMs!
    ? pause(`${time} and the forecast of ${text(forecast)} is ${withinLimit(allowed)}`)
    : abort(`${time}: too late for a suspension, though the forecast is ${text(forecast)}`);
}

function onTimeUpForCompletion(
  time: string,
  forecast: number | undefined,
  { abortAbove }: Terms,
): Verdict {
  if (forecast === undefined) {
    return abortAbove === Number.POSITIVE_INFINITY
      ? pause(`${time} and completion is preferred; no forecast was possible yet`)
      : abort(`${time} and no forecast was possible yet, which --abort-above would need`);
  }
  return forecast > abortAbove
    ? abort(
        `${time} and the forecast of ${text(forecast)} is above the ${text(abortAbove)} of --abort-above`,
      )
    : pause(`${time} and completion is preferred; forecast ${text(forecast)}`);
}

/** The operator's order, which only `--abort-above` overrules. */
export function onCutover(
  stats: PrecopyStats,
  { allowed, abortAbove }: Terms,
): Verdict | undefined {
  if (!stats.cutoverRequested) return undefined;
  const forecast = stats.estimate?.expected;
  if (forecast === undefined) {
    // With a ceiling to respect, the first forecast is waited for: one round at most.
    if (abortAbove !== Number.POSITIVE_INFINITY) {
      return goOn('cutover requested; --abort-above makes it wait for the first forecast');
    }
    return pause('cutover requested before any forecast was possible');
  }
  if (forecast > abortAbove) {
    return abort(
      `cutover requested, but the forecast of ${text(forecast)} is above the ${text(abortAbove)} of --abort-above`,
    );
  }
  if (forecast > allowed) {
    return pause(
      `cutover requested, although the forecast of ${text(forecast)} is above the limit of ${text(allowed)}`,
    );
  }
  return pause(`cutover requested; forecast ${range(stats.estimate!)}`);
}
