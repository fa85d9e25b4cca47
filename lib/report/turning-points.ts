import { formatDuration } from '../units.ts';
import { seenMs } from './promise.ts';
import type { ConsultationRecord, Outcome, SuspensionRecord } from './records.ts';
import { decision, heldIn, limitsAt, type Story } from './story.ts';
import { count, isFigure, limitsInWords, plural, shortDuration } from './words.ts';

/** A moment that decided how the migration went, in plain words. */
export interface TurningPoint {
  readonly at: number;
  readonly what: string;
  readonly why: string;
}

/** Outcomes as words of a sentence. */
export const OUTCOME_WORDS: Readonly<Record<Outcome | 'running', string>> = {
  completed: 'completed',
  aborted: 'aborted by policy',
  cancelled: 'cancelled',
  failed: 'failed',
  'needs-resolve': 'needs resolve',
  running: 'no outcome yet',
};

/** In the order in which they happened. */
export function turningPoints(story: Story): TurningPoint[] {
  const points = [
    begin(story),
    ...firstRound(story),
    ...story.limits.map(({ at, limits, ...caps }) => ({
      at,
      what: 'Limits changed',
      why: limitsInWords(limits, caps, story.start.policy),
    })),
    ...problems(story),
    ...closestForecast(story),
    ...held(story),
    ...verdict(story),
    ...suspended(story.suspension),
    ...story.notes.map(({ at, text }) => ({ at, what: 'Note', why: text })),
    ...finish(story),
  ];
  return points.sort((a, b) => a.at - b.at);
}

function begin({ start }: Story): TurningPoint {
  const why = `${start.policy} policy: ${limitsInWords(start.limits, start, start.policy)}`;
  return { at: 0, what: 'Started', why };
}

function firstRound({ rounds, consultations }: Story): TurningPoint[] {
  const first = rounds[0];
  if (first === undefined || first.stopAndCopy) return [];
  const after = consultations.find(
    ({ at, stats }) => at >= first.at && stats.when === 'before-round' && stats.dirtyCount >= 0,
  );
  const again =
    after === undefined ? '' : `; ${count(after.stats.dirtyCount)} had been written meanwhile`;
  const why = `${plural(first.sentPages, 'page')} in ${formatDuration(first.ms)}${again}`;
  return [{ at: first.at, what: first.cutShort ? 'Round 1 cut short' : 'Round 1 done', why }];
}

/** A custom policy that fails fails often: only its first failure is a turning point. */
function problems({ consultations }: Story): TurningPoint[] {
  const failed = consultations.filter(({ problem }) => problem !== undefined);
  const first = failed[0];
  if (first === undefined) return [];
  const times = failed.length === 1 ? '' : ` (${plural(failed.length, 'consultation')} in all)`;
  const why = `${first.problem}${times}; a safe verdict took its place`;
  return [{ at: first.at, what: 'The policy did not answer', why }];
}

/** For a move that was given up before suspension: how near it came. */
function closestForecast(story: Story): TurningPoint[] {
  if (story.end?.outcome !== 'aborted' || story.suspension !== undefined) return [];
  let best: { record: ConsultationRecord; ms: number } | undefined;
  for (const record of story.consultations) {
    const ms = record.stats.estimate?.expected;
    if (record.stats.when !== 'before-round' || record.stats.iteration < 1 || !isFigure(ms))
      continue;
    if (best === undefined || ms < best.ms) best = { record, ms };
  }
  if (best === undefined) return [];
  const { record, ms } = best;
  const limit = limitsAt(story, record.at).maxSuspendMs;
  const against = isFigure(limit) ? `, limit ${shortDuration(limit)}` : '';
  const why = `a suspension would have taken ${formatDuration(ms)}${against}`;
  return [{ at: record.at, what: `Lowest forecast, after round ${record.stats.iteration}`, why }];
}

/** Ready, and not to be moved yet. */
function held(story: Story): TurningPoint[] {
  const hold = heldIn(story);
  if (hold === undefined) return [];
  const { at, verdict } = hold.from;
  return [{ at, what: 'Held', why: verdict.reason }];
}

function verdict(story: Story): TurningPoint[] {
  const last = decision(story);
  if (last === undefined) return [];
  const what = last.verdict.action === 'abort' ? 'Given up' : 'Stop-and-copy';
  return [{ at: last.at, what: `${what} ${where(last.stats)}`, why: last.verdict.reason }];
}

/** Where a consultation stands: `in round 3`, `after round 2`, `before the first round`. */
export function where({ when, iteration }: ConsultationRecord['stats']): string {
  if (when === 'in-round') return `in round ${iteration + 1}`;
  return iteration === 0 ? 'before the first round' : `after round ${iteration}`;
}

function suspended(suspension: SuspensionRecord | undefined): TurningPoint[] {
  if (suspension === undefined) return [];
  const { at, side, guestMs, agentMs } = suspension;
  const seen = formatDuration(seenMs(suspension));
  const by = isFigure(guestMs)
    ? `it saw ${seen}; the agents timed ${formatDuration(agentMs)}`
    : `${seen} by the agents' clock; the guest could not tell`;
  const what =
    side === 'destination' ? 'Guest runs at the destination' : 'Guest runs on at the source';
  return [{ at, what, why: by }];
}

function finish({ end, until }: Story): TurningPoint[] {
  if (end === undefined) {
    const why = 'the migration is still running, or the agent stopped before it could say more';
    return [{ at: until, what: 'The ledger ends here', why }];
  }
  const words = OUTCOME_WORDS[end.outcome] ?? String(end.outcome);
  const what = words.charAt(0).toUpperCase() + words.slice(1);
  return [{ at: end.at, what, why: end.message }];
}
