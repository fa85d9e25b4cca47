import type { Outcome } from '../report/records.ts';
import type { EvacuationRecord, GuestEnd, Leaving } from './view.ts';

/*
 * What an evacuation does next, as pure functions of what is known of its guests.
 */

/**
 * Before a guest is tried again whose failure may have been of the moment, ms; then no more. Longer in
 * all than a destination waits for a source whose connection was lost (--reconnect-timeout) and has the guest.
 */
const PAUSES_MS = [2_000, 5_000, 10_000, 20_000, 40_000];

/** Suspension limits that a guest is tried with besides the first. */
const MAX_RAISES = 3;

/** What may be otherwise in a moment: an agent that is restarted, a network, a guest in other hands. */
const PASSING: ReadonlySet<string> = new Set([
  ...['connect-refused', 'connect-timeout', 'connect-failed', 'reconnect-timeout', 'no-progress'],
  ...['peer-closed', 'peer-silent', 'too-many', 'exhausted', 'guest-busy', 'not-seen'],
  ...['shutting-down', 'interrupted'],
]);

/** What no other destination changes. */
const OF_THE_GUEST: ReadonlySet<string> = new Set([
  ...['guest-died', 'guest-stopped', 'guest-not-running', 'unknown-guest'],
]);

/** An attempt to move a guest that is over. */
export interface Attempt extends Omit<GuestEnd, 'at'> {
  /** Who has refused or failed; undefined when that was on this host. */
  readonly destination: string | undefined;
  readonly enoughMs?: number | undefined;
}

/** What follows from an attempt. */
export interface Settled {
  readonly guest: Leaving;
  /** Before it is tried again, ms. */
  readonly pauseMs: number;
}

/**
 * Guests to be moved now, in order.
 * @param busy those that are on their way
 * @param resting those whose pause is not over
 */
export function due(
  { leaving, parallel }: EvacuationRecord,
  busy: ReadonlySet<string>,
  resting: ReadonlySet<string>,
): readonly string[] {
  return leaving
    .filter(({ name, end }) => end === undefined && !busy.has(name) && !resting.has(name))
    .slice(0, Math.max(0, parallel - busy.size))
    .map(({ name }) => name);
}

/**
 * The first destination that has not refused the guest; after a failure of the moment the next one.
 * Undefined when all have refused.
 */
export function destinationFor(
  { refused, detours }: Pick<Leaving, 'refused' | 'detours'>,
  destinations: readonly string[],
): string | undefined {
  const left = destinations.filter(
    (one) => !refused.some(({ destination }) => destination === one),
  );
  return left[detours % left.length];
}

/** The suspension limit that is in force for the guest, ms; undefined: the policy's own. */
export function limitOf({ raisedMs }: Leaving, { move }: EvacuationRecord): number | undefined {
  return raisedMs.at(-1) ?? move.limits.maxSuspendMs;
}

/**
 * @param others guests of the evacuation are on their way: a destination that has too many migrations
 *   will have fewer
 * @param at when the attempt was over, ISO 8601
 */
export function settled(
  guest: Leaving,
  attempt: Attempt,
  evacuation: EvacuationRecord,
  others: boolean,
  at: string,
): Settled {
  const { destination, enoughMs, ...told } = attempt;
  const { outcome, code = 'internal', message = '' } = told;
  const ended = { guest: { ...guest, waitsFor: undefined, end: { at, ...told } }, pauseMs: 0 };
  if (outcome === 'aborted') {
    const raised = raisedTo(guest, attempt, evacuation);
    if (raised === undefined) return ended;
    const waitsFor = `given up with the limit it had (${code})`;
    return { guest: { ...guest, raisedMs: [...guest.raisedMs, raised], waitsFor }, pauseMs: 0 };
  }
  if (outcome !== 'failed') return ended;
  const waitsFor = `${message} (${code})`;
  if (PASSING.has(code)) {
    const detours = guest.detours + (destination === undefined ? 0 : 1);
    const next = { ...guest, detours, waitsFor };
    if (code === 'too-many' && others) return { guest: next, pauseMs: PAUSES_MS[0]! };
    const pauseMs = PAUSES_MS[guest.troubles];
    if (pauseMs === undefined) return ended;
    return { guest: { ...next, troubles: guest.troubles + 1 }, pauseMs };
  }
  if (destination === undefined || OF_THE_GUEST.has(code)) return ended;
  const refused = [...guest.refused, { destination, code, message }];
  const next = { ...guest, refused, waitsFor };
  if (destinationFor(next, evacuation.destinations) !== undefined)
    return { guest: next, pauseMs: 0 };
  return { guest: { ...ended.guest, refused }, pauseMs: 0 };
}

/** The limit that would have been enough, where it may be tried. */
function raisedTo(
  guest: Leaving,
  { enoughMs, limitMs }: Attempt,
  evacuation: EvacuationRecord,
): number | undefined {
  const { retryUpToMs = 0 } = evacuation;
  const tried = limitOf(guest, evacuation) ?? limitMs ?? 0;
  if (enoughMs === undefined || enoughMs <= tried || enoughMs > retryUpToMs) return undefined;
  return guest.raisedMs.length < MAX_RAISES ? enoughMs : undefined;
}

/** The best first. */
const SEVERITY: readonly Outcome[] = [
  ...(['completed', 'cancelled', 'aborted', 'failed', 'needs-resolve'] as const),
];

/** The worst outcome of its guests; undefined while one has none. */
export function worstOf({ leaving }: Pick<EvacuationRecord, 'leaving'>): Outcome | undefined {
  if (leaving.some(({ end }) => end === undefined)) return undefined;
  const ranks = leaving.map(({ end }) => SEVERITY.indexOf(end!.outcome));
  return SEVERITY[Math.max(0, ...ranks)];
}
