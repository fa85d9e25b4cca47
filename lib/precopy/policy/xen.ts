import { formatDuration } from '../../units.ts';
import { longestEnforced, UNDIVIDED } from '../fit.ts';
import { isHeld } from '../hold.ts';
import {
  type Policy,
  type PolicyLimits,
  type PrecopyStats,
  UNKNOWN,
  type Verdict,
} from '../stats.ts';
import { onHold } from './hold.ts';
import { onCutover } from './orders.ts';

/**
 * Xen's built-in rule (libxc, `simple_precopy_policy`): stop-and-copy when the known dirty count is
 * below --min-remaining, or when --max-iters rounds are done; both numbers are raw and nothing is
 * forecast. Unlike Xen, the pages that the last sync found are not sent once more before the guest
 * is suspended. Three things are added because an operator can ask for them by name: a cutover,
 * --timeout, which aborts, and a hold, during which the guest is kept as ready as with the contract.
 * --max-suspend-time, if given, is enforced after this policy has spoken, and judges a cutover.
 */
export const xenPolicy: Policy = (stats, limits): Verdict => {
  const { iteration, dirtyCount, elapsedMs, cutoverRequested } = stats;
  const { timeoutMs, maxIters, minRemaining } = limits;
  if (isHeld(stats))
    return onHold(stats, longestEnforced(limits, stats.estimate ?? UNDIVIDED), timeoutMs)!;
  const order = limits.maxSuspendMs === undefined ? undefined : onCutover(stats, limits);
  if (order !== undefined) return order;
  if (cutoverRequested) {
    return { action: 'stop-and-copy', reason: `cutover requested after ${rounds(iteration)}` };
  }
  if (timeoutMs !== undefined && elapsedMs >= timeoutMs) {
    return {
      action: 'abort',
      reason: `the time limit of ${formatDuration(timeoutMs)} passed after ${rounds(iteration)}`,
    };
  }
  if (iteration >= maxIters) {
    return {
      action: 'stop-and-copy',
      reason: `${rounds(iteration)} of at most ${maxIters} are done`,
    };
  }
  if (dirtyCount !== UNKNOWN && dirtyCount < minRemaining) {
    return {
      action: 'stop-and-copy',
      reason: `${dirtyCount} dirty pages are fewer than ${minRemaining}`,
    };
  }
  return { action: 'continue', reason: goOn(stats, limits) };
};

function goOn({ iteration, dirtyCount }: PrecopyStats, { maxIters, minRemaining }: PolicyLimits) {
  const done = `${rounds(iteration)} of at most ${maxIters} done`;
  return dirtyCount === UNKNOWN
    ? `${done}; the dirty pages are known after the next sync`
    : `${done}; ${dirtyCount} dirty pages are not fewer than ${minRemaining}`;
}

function rounds(count: number): string {
  return count === 1 ? '1 round' : `${count} rounds`;
}
