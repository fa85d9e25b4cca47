import type { Forecast, Span } from '../precopy/forecast.ts';
import type { MoveForecast } from '../precopy/past-moves.ts';
import { enforcedSuspendMs, type PolicyLimits } from '../precopy/stats.ts';
import { formatDuration } from '../units.ts';
import { isFigure, plural, printable } from './words.ts';

/**
 * A forecast before the move in one line: `suspension 40 ms to 70 ms, whole move 8.1 s to 11 s in 3
 * rounds; fits --max-suspend-time 300ms: yes; …`. What would not fit, or is not known, comes first.
 */
export function foretoldText(
  { verdict, reason, totalMs, suspensionMs, rounds, enoughMs }: MoveForecast,
  limits: PolicyLimits | undefined,
): string {
  const why = printable(reason);
  const would = (limits && fitsText({ verdict, enoughMs }, limits)) ?? '';
  if (verdict === 'unknown') return `not known: ${why}`;
  if (totalMs === undefined || suspensionMs === undefined)
    return `it would be given up: ${why}${would && `; ${would}`}`;
  const figures = `suspension ${spanText(suspensionMs)}, whole move ${spanText(totalMs)}`;
  const all = `${figures}${rounds ? roundsText(rounds) : ''}; ${would}`;
  return verdict === 'perhaps' ? `it may not fit: ${why}; ${all}` : all;
}

/** `40 ms to 70 ms`. */
export function spanText({ low, high }: Span): string {
  const [from, to] = [formatDuration(low), formatDuration(high)];
  return from === to ? from : `${from} to ${to}`;
}

/** ` in 3 to 4 rounds`. */
export function roundsText({ low, high }: Span): string {
  return ` in ${low < high ? `${low} to ` : ''}${plural(high, 'round')}`;
}

/** `fits --max-suspend-time 300ms: yes; smallest --max-suspend-time that would do: 90ms`. */
export function fitsText(
  { verdict, enoughMs }: Pick<Forecast, 'verdict' | 'enoughMs'>,
  limits: PolicyLimits,
): string {
  const limit = enforcedSuspendMs(limits);
  const asked =
    limit === undefined
      ? `ends with no limit enforced: ${verdict}`
      : `fits ${limits.prefer === 'completion' ? '--abort-above' : '--max-suspend-time'} ${option(limit)}: ${verdict}`;
  if (!isFigure(enoughMs)) return asked;
  return `${asked}; smallest --max-suspend-time that would do: ${option(enoughMs)}`;
}

/** A duration as the command line takes it. */
function option(ms: number): string {
  return `${Math.round(ms)}ms`;
}
