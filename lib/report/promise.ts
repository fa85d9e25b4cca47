import { enforcedSuspendMs } from '../precopy/stats.ts';
import type { SuspensionRecord } from './records.ts';
import { decision, limitsAt, type Story } from './story.ts';
import { isFigure } from './words.ts';

/** How the suspension limit fared. */
export interface Promised {
  readonly result: 'kept' | 'missed' | 'rolled-back' | 'never-suspended';
  /** The limit that was enforced, ms. */
  readonly limitMs: number;
  /** How long the guest stood still: by its own heartbeat, or else by the agents' clock, ms. */
  readonly actualMs: number | undefined;
  /** Whose clock that was. */
  readonly by: 'guest' | 'agents';
  /** limit − actual: to spare when positive, missed by when negative, ms. */
  readonly spareMs: number | undefined;
  /** A limit that would have been enough, ms, when this one was not; an estimate. */
  readonly enoughMs: number | undefined;
}

/** Undefined when no suspension limit was set. */
export function judgePromise(story: Story): Promised | undefined {
  const { suspension } = story;
  const limitMs = suspension?.limitMs ?? enforcedSuspendMs(limitsAt(story, story.until));
  if (!isFigure(limitMs)) return undefined;
  if (suspension === undefined) return neverSuspended(story, limitMs);
  const actualMs = seenMs(suspension);
  const spareMs = limitMs - actualMs;
  const by = isFigure(suspension.guestMs) ? ('guest' as const) : ('agents' as const);
  const common = { limitMs, actualMs, by, spareMs };
  if (suspension.side === 'source')
    return { ...common, result: 'rolled-back', enoughMs: enoughAfterRollBack(story, suspension) };
  if (spareMs >= 0) return { ...common, result: 'kept', enoughMs: undefined };
  return { ...common, result: 'missed', enoughMs: roundUp(actualMs) };
}

/** The length of a suspension as the guest lived it, or else as the agents timed it, ms. */
export function seenMs({ guestMs, agentMs }: SuspensionRecord): number {
  return isFigure(guestMs) ? guestMs : agentMs;
}

/** An abort before suspension: the lowest cautious forecast would have fitted under its value. */
function neverSuspended(story: Story, limitMs: number): Promised {
  const aborted = decision(story)?.verdict.action === 'abort' || story.end?.outcome === 'aborted';
  const lowest = Math.min(...forecasts(story));
  const enoughMs = aborted && lowest > limitMs ? roundUp(lowest) : undefined;
  return {
    result: 'never-suspended',
    limitMs,
    actualMs: undefined,
    by: 'agents',
    spareMs: undefined,
    enoughMs: isFigure(enoughMs) ? enoughMs : undefined,
  };
}

/** Upper ends of the forecasts made where the guest could have been suspended, ms. */
function forecasts({ consultations }: Story): number[] {
  return consultations
    .filter(({ stats }) => stats.when === 'before-round' && stats.iteration > 0)
    .map(({ stats }) => stats.estimate?.high)
    .filter(isFigure);
}

/**
 * The parts that were reached, the pages that were left at the pace of those that were sent, and
 * the fixed cost that was still to come; never less than the cautious forecast.
 */
function enoughAfterRollBack(story: Story, { agentMs, parts, estimate }: SuspensionRecord): number {
  const round = story.rounds.findLast(({ stopAndCopy }) => stopAndCopy);
  const fixed = decision(story)?.stats.estimate?.fixed;
  const pagesMs = round?.ms ?? parts.pages ?? 0;
  const left = round === undefined ? 0 : round.dirtyPages - round.sentPages;
  const leftMs = left > 0 && round!.sentPages > 0 ? (pagesMs * left) / round!.sentPages : 0;
  const needed = agentMs + leftMs + (isFigure(fixed) ? fixed : 0);
  return roundUp(Math.max(needed, isFigure(estimate?.high) ? estimate.high : 0));
}

/** Two leading digits are all that an estimate deserves. */
function roundUp(ms: number): number {
  if (!(ms > 0)) return 0;
  const step = 10 ** Math.max(0, Math.floor(Math.log10(ms)) - 1);
  return Math.ceil(ms / step) * step;
}
