import { GodwitError } from '../../errors.ts';
import type { SourceGuest } from '../../guest/guest.ts';
import { enoughFor, longestEnforced } from '../../precopy/fit.ts';
import { isHeld } from '../../precopy/hold.ts';
import type { Consult } from '../../precopy/loop.ts';
import {
  enforcedSuspendMs,
  type PolicyLimits,
  type PrecopyStats,
  type Verdict,
} from '../../precopy/stats.ts';
import { formatDuration } from '../../units.ts';

/**
 * What a policy's verdict is worth with a hypervisor that suspends the guest when it sees fit: a guest that
 * runs can be given up, and nothing else. One that may have stood for longer than its limit is given up as
 * well: whether it does shows only later. One whose hypervisor asks when its rounds are over is suspended
 * then, if the forecast fits: no more rounds come that could shorten it.
 */
export function atOwnPace(consult: Consult, guest: SourceGuest): Consult {
  if (guest.pages !== 'pushed' || guest.ownPace === undefined) return consult;
  return async (stats, limits) => {
    const consultation = await consult(stats, limits);
    const { stands, standsMs = 0, asks } = guest.ownPace!;
    const { verdict } = consultation;
    if (stands || verdict.action === 'abort') return consultation;
    if (asks) return { ...consultation, verdict: atItsLastRound(verdict, stats, limits) };
    const limitMs = enforcedSuspendMs(limits);
    if (limitMs !== undefined && standsMs > limitMs)
      return { ...consultation, verdict: mayStand(standsMs, limitMs) };
    if (verdict.action === 'continue') return consultation;
    const when = asks === undefined ? 'when it sees fit' : 'after rounds of its own';
    const reason = `${verdict.reason}; but the hypervisor suspends the guest ${when}`;
    return { ...consultation, verdict: { action: 'continue', reason } };
  };
}

/** What would go on in another round is decided now. */
function atItsLastRound(verdict: Verdict, stats: PrecopyStats, limits: PolicyLimits): Verdict {
  const { when, iteration, estimate } = stats;
  const isDue = when === 'before-round' || when === 'at-rest';
  if (verdict.action !== 'continue' || !isDue || iteration === 0) return verdict;
  const last = 'the hypervisor makes no more rounds';
  if (isHeld(stats)) return { action: 'hold', reason: `${verdict.reason}; but ${last}` };
  if (estimate === undefined) return { action: 'stop-and-copy', reason: `${last}; no forecast` };
  const longest = Math.min(longestEnforced(limits, estimate), limits.abortAboveMs ?? Infinity);
  const forecast = `${last}, and the forecast of ${formatDuration(estimate.expected)}`;
  if (estimate.expected <= longest)
    return { action: 'stop-and-copy', reason: `${forecast} is within what is allowed` };
  const enoughMs = enoughFor(estimate.expected, estimate);
  const reason = `${forecast} is above the ${formatDuration(longest)} allowed; ${enoughMs} ms would have been enough`;
  return { action: 'abort', reason, enoughMs };
}

/**
 * The limit of a guest that its hypervisor has suspended, until the migration takes that up and keeps it
 * itself: the round that is being ended may take its time.
 * @returns what calls it off
 */
export function limitUntilTakenUp(
  guest: SourceGuest,
  limitMs: number | undefined,
  onMissed: (missed: GodwitError) => void,
): () => void {
  if (guest.pages !== 'pushed' || guest.ownPace === undefined || limitMs === undefined)
    return () => {};
  const leftMs = Math.max(0, limitMs - (guest.ownPace.standsMs ?? 0));
  const timer = setTimeout(() => onMissed(notTakenUp(limitMs)), leftMs);
  return () => clearTimeout(timer);
}

function notTakenUp(limitMs: number): GodwitError {
  const text = `the guest would have been suspended longer than ${formatDuration(limitMs)}: its last pages were still to be taken by the destination. It runs on at its source`;
  return new GodwitError('suspension-limit', text);
}

function mayStand(ms: number, limitMs: number): Verdict {
  const reason = `the round has taken ${formatDuration(ms)} so far, and the hypervisor may have suspended the guest at its beginning: --max-suspend-time is ${formatDuration(limitMs)}`;
  return { action: 'abort', reason };
}
