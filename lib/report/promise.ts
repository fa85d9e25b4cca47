import { enoughAfter, UNDIVIDED } from '../precopy/fit.ts';
import { enforcedSuspendMs } from '../precopy/stats.ts';
import type { SuspensionRecord } from './records.ts';
import { limitsAt, type Story } from './story.ts';
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
    return { ...common, result: 'rolled-back', enoughMs: story.end?.enoughMs };
  if (spareMs >= 0) return { ...common, result: 'kept', enoughMs: undefined };
  return {
    ...common,
    result: 'missed',
    enoughMs: enoughAfter(actualMs, { ...UNDIVIDED, ...suspension.estimate }),
  };
}

/** The length of a suspension as the guest lived it, or else as the agents timed it, ms. */
export function seenMs({ guestMs, agentMs }: SuspensionRecord): number {
  return isFigure(guestMs) ? guestMs : agentMs;
}

/** An abort before suspension: the migration said what would have been enough. */
function neverSuspended({ end }: Story, limitMs: number): Promised {
  return {
    result: 'never-suspended',
    limitMs,
    actualMs: undefined,
    by: 'agents',
    spareMs: undefined,
    enoughMs: end?.enoughMs,
  };
}
