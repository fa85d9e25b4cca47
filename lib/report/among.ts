import { quantile } from '../precopy/calibration.ts';
import { formatDuration } from '../units.ts';
import { seenMs } from './promise.ts';
import type { PastSuspension } from './records.ts';
import type { Story } from './story.ts';
import { isFigure, shortDuration } from './words.ts';

/**
 * The suspension of this move, the last of them, and those of the guest before it, the oldest first;
 * undefined when it has none, or nothing came before it.
 */
export function suspensionsAmong({
  suspension,
  earlier,
  start,
}: Story): readonly PastSuspension[] | undefined {
  if (suspension === undefined || earlier === undefined) return undefined;
  const before = earlier.suspensions.filter(({ ms }) => isFigure(ms));
  if (before.length === 0) return undefined;
  const { limitMs, estimate: forecast, side } = suspension;
  const own = { time: start.time, ms: seenMs(suspension), limitMs, forecast };
  return [...before, { ...own, moved: side === 'destination' }];
}

/** `38 ms, median 40 ms (31 ms to 61 ms) of the last 12; limit 300 ms kept, as by all; …`. */
export function amongInWords(all: readonly PastSuspension[]): string {
  const own = all.at(-1)!;
  const times = all.map(({ ms }) => ms);
  const median = formatDuration(quantile(times, 0.5));
  const range = `${formatDuration(Math.min(...times))} to ${formatDuration(Math.max(...times))}`;
  const parts = [
    `${formatDuration(own.ms)}, median ${median} (${range}) of the last ${all.length} of this guest`,
    isFigure(own.limitMs) &&
      `limit ${shortDuration(own.limitMs)} ${isKept(own) ? 'kept' : 'not kept'}, ${shareOf(all, hasLimit, isKept)} kept theirs`,
    isForetold(own) &&
      `${isInside(own) ? 'inside' : 'outside'} its forecast, ${shareOf(all, isForetold, isInside)} were inside`,
  ];
  return parts.filter((part) => part !== false).join('; ');
}

/** `10 of 12`, of those that it can be said of. */
export function shareOf(
  all: readonly PastSuspension[],
  counts: (one: PastSuspension) => boolean,
  holds: (one: PastSuspension) => boolean,
): string {
  const those = all.filter(counts);
  return `${those.filter(holds).length} of ${those.length}`;
}

export function hasLimit({ limitMs }: PastSuspension): boolean {
  return isFigure(limitMs);
}

/** A suspension that was rolled back may have kept its limit: that is what it is for. */
export function isKept({ ms, limitMs }: PastSuspension): boolean {
  return isFigure(limitMs) && ms <= limitMs;
}

export function isForetold({ forecast, moved }: PastSuspension): boolean {
  return moved && forecast !== undefined && Object.values(forecast).every(isFigure);
}

export function isInside({ ms, forecast }: PastSuspension): boolean {
  return forecast !== undefined && forecast.low <= ms && ms <= forecast.high;
}
