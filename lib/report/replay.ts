import { holdAt } from '../precopy/hold.ts';
import { changeLimits, type LimitsChange, limitsFor, type PolicyName } from '../precopy/limits.ts';
import type { Consult } from '../precopy/loop.ts';
import { endsAt, type PolicyLimits, type Verdict } from '../precopy/stats.ts';
import { formatDuration } from '../units.ts';
import { type Asked, askedIn } from './asked.ts';
import type { ConsultationRecord, LedgerRecord, Outcome } from './records.ts';
import { type SmallestLimit, smallestLimit } from './smallest-limit.ts';
import { decision, tellStory } from './story.ts';
import { momentInWords } from './summary.ts';
import { OUTCOME_WORDS, where } from './turning-points.ts';
import { labelled, limitsInWords, plural } from './words.ts';

/** Who is asked instead, and with which limits. */
export interface Instead {
  readonly policy: PolicyName;
  readonly consult: Consult;
  /** From the start to the end; those left out are as recorded, changes in flight included. */
  readonly limits: LimitsChange;
}

/** What a policy said to the consultations of a ledger. */
export interface Replay {
  readonly id: string;
  readonly guest: string;
  readonly policy: PolicyName;
  /** Undecided: it said continue to all of them. */
  readonly outcome: 'stop-and-copy' | 'abort' | 'undecided';
  /** Its answer at the consultation that decided, or else at the last; undefined: there is none. */
  readonly last: Answer | undefined;
  /** Why verdicts are not the custom policy's own: how many, and the first reason. */
  readonly problems: { readonly count: number; readonly first: string } | undefined;
  /** For the contract policy. */
  readonly smallest: SmallestLimit | undefined;
  readonly recorded: {
    readonly policy: PolicyName;
    /** At the start. */
    readonly limits: PolicyLimits;
    readonly outcome: Outcome | 'running';
    /** Undefined when it ended without one. */
    readonly decision: Pick<ConsultationRecord, 'stats' | 'verdict'> | undefined;
  };
}

export interface Answer {
  readonly stats: ConsultationRecord['stats'];
  readonly limits: PolicyLimits;
  readonly verdict: Verdict;
}

/**
 * Puts the consultations of a ledger to a policy until it decides. What the guest would have done
 * after the recorded decision is not known, so a replay ends there or earlier.
 *
 * @param records as `parseLedger` returns them
 * @throws GodwitError bad-option when the limits do not go with the policy or with those recorded
 */
export async function replay(
  records: readonly LedgerRecord[],
  { policy, consult, limits: given }: Instead,
): Promise<Replay> {
  const story = tellStory(records);
  const { start, end } = story;
  const recorded = askedIn(records);
  const held =
    given.hold === undefined
      ? recorded
      : heldBy(recorded, given.hold ?? undefined, Date.parse(start.time));
  const asked = held.map(({ stats, limits }): Asked => {
    const own = policy === start.policy ? limits : limitsFor(policy, limits);
    return { stats, limits: changeLimits(policy, own, given) };
  });
  const { last, problems } = await answers(asked, consult);
  const decided = decision(story);
  return {
    id: start.id,
    guest: start.guest,
    policy,
    outcome: outcomeOf(last),
    last,
    problems: problems.length === 0 ? undefined : { count: problems.length, first: problems[0]! },
    smallest: policy === 'contract' ? smallestLimit(asked) : undefined,
    recorded: {
      policy: start.policy,
      limits: start.limits,
      outcome: end?.outcome ?? 'running',
      decision: decided && { stats: decided.stats, verdict: decided.verdict },
    },
  };
}

function outcomeOf(last: Answer | undefined): Replay['outcome'] {
  if (last === undefined || !endsAt(last.verdict, last.stats.when)) return 'undecided';
  return last.verdict.action === 'abort' ? 'abort' : 'stop-and-copy';
}

/** The consultations of a guest that had been held otherwise, or not at all, by the clock of then. */
function heldBy(
  asked: readonly Asked[],
  limit: string | undefined,
  startedMs: number,
): readonly Asked[] {
  let heldAtMs: number | undefined;
  return asked.map(({ stats, limits }) => {
    const { elapsedMs } = stats;
    const hold = limit === undefined ? undefined : holdAt(limit, startedMs + elapsedMs);
    if (hold !== undefined && hold.opensMs !== 0) heldAtMs = elapsedMs;
    const sinceHeldMs = heldAtMs === undefined ? undefined : elapsedMs - heldAtMs;
    return { stats: Object.freeze({ ...stats, hold, sinceHeldMs }), limits };
  });
}

async function answers(asked: readonly Asked[], consult: Consult) {
  const problems: string[] = [];
  let last: Answer | undefined;
  for (const { stats, limits } of asked) {
    const { verdict, problem } = await consult(stats, limits);
    if (problem !== undefined) problems.push(problem);
    const { history: _, ...shown } = stats;
    last = { stats: shown, limits, verdict };
    if (endsAt(verdict, stats.when)) break;
  }
  return { last, problems };
}

/**
 * A replay as the command line prints it, no trailing newline.
 * @param change what is different from the record, as in `with --max-suspend-time 800ms`
 */
export function replayText(replayed: Replay, change: string): string {
  const { outcome, last, problems, smallest } = replayed;
  return labelled([
    ['replay', `${change} ${answerInWords(replayed)}`],
    ['why', outcome === 'undecided' ? undefined : last?.verdict.reason],
    ['policy', problems && `${problems.first} (${plural(problems.count, 'consultation')})`],
    ['smallest', smallest && smallestInWords(smallest)],
    ['recorded', recordedInWords(replayed)],
    [
      'note',
      'what the guest would have done after the recorded decision is not known: a replay ends there or earlier',
    ],
  ]);
}

/** What it decided and when: `the guest would have been suspended after round 5, …`. */
export function answerInWords({ outcome, last }: Pick<Replay, 'outcome' | 'last'>): string {
  if (last === undefined)
    return 'nothing would have been decided: the move ended before a policy was asked';
  switch (outcome) {
    case 'stop-and-copy':
      return `the guest would have been suspended ${momentInWords(last.stats)}`;
    case 'abort':
      return `the move would have been given up ${momentInWords(last.stats)}`;
    case 'undecided':
      return `nothing would have been decided by the end of the record, ${where(last.stats)}, ${formatDuration(last.stats.elapsedMs)} after the start`;
  }
}

function recordedInWords({ recorded: { policy, limits, outcome, decision } }: Replay): string {
  const asked = `${policy} policy, ${limitsInWords(limits, {}, policy)}`;
  if (decision === undefined) return `${asked}: ${OUTCOME_WORDS[outcome]}`;
  const what = decision.verdict.action === 'abort' ? 'given up' : 'suspended';
  return `${asked}: ${what} ${momentInWords(decision.stats)}; ${OUTCOME_WORDS[outcome]}`;
}

/** `with --max-suspend-time 42ms the guest would have been suspended …`. */
export function smallestInWords({ maxSuspendMs, stats }: SmallestLimit): string {
  return `with --max-suspend-time ${maxSuspendMs}ms the guest would have been suspended ${momentInWords(stats)}`;
}
