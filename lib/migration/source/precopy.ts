import { GodwitError } from '../../errors.ts';
import type { Lessons } from '../../precopy/calibration.ts';
import { suspensionCosts } from '../../precopy/costs.ts';
import type { SuspensionCosts } from '../../precopy/estimate.ts';
import { holdAt } from '../../precopy/hold.ts';
import {
  type Clock,
  type Consult,
  type Consulted,
  type OpenPolicy,
  type PrecopyResult,
  precopy,
} from '../../precopy/loop.ts';
import { endsAt, enforcedSuspendMs } from '../../precopy/stats.ts';
import type { Steering } from '../../precopy/steering.ts';
import type { Course, Turn } from './basis.ts';
import type { Connected } from './connect.ts';
import type { Accepted } from './offer.ts';
import { atOwnPace, limitUntilTakenUp } from './own-pace.ts';

/** Characters of a verdict's reason that travel. */
const MAX_REASON = 1000;

const CLOCK: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};

/** Rounds while the guest runs; resolves when the policy says stop-and-copy. @throws GodwitError policy-abort */
export async function sendRounds(
  course: Course,
  policy: OpenPolicy,
  connected: Connected,
  accepted: Accepted,
): Promise<PrecopyResult> {
  const { steering, facts, ending, guest, layout, context, subject } = course;
  const { rounds } = accepted;
  facts.enter('precopy');
  let takenUp = () => {};
  if (guest.pages === 'pushed')
    guest.onOwnSuspension(() => {
      // A hypervisor that cannot be held back from it: it is stop-and-copy now, unless that was held off.
      if (heldNow(steering)) return ending.abort(notHeld());
      facts.note('the hypervisor has suspended the guest by itself');
      takenUp = limitUntilTakenUp(guest, enforcedSuspendMs(steering.limits), (missed) =>
        ending.abort(missed),
      );
      steering.cutover(true);
    });
  await ending.or(rounds.begin());
  const lessons = context.experiences.lessonsFor(subject);
  const logDecision = decisionLog(context.log);
  const work = precopy({
    engine: rounds,
    totalPages: layout.totalPages,
    consult: inTurn(atOwnPace(policy.consult, guest), context.turn, steering),
    steering,
    clock: CLOCK,
    startedMs: facts.startedMs,
    costs: () => costs(course, connected, accepted, lessons),
    cancel: ending.signal,
    onConsultation: (consulted) => {
      facts.consulted(consulted);
      logDecision(consulted);
      if (consulted.stats.when === 'before-round') tellVerdict(connected, consulted);
    },
    onLapse: (why) => {
      facts.note(`the cutover order does not stand any more: ${why}`);
      context.log('warn', `the cutover order does not stand any more: ${why}`);
    },
    onRound: (report) => facts.round({ ...report, stopAndCopy: false, totals: rounds.roundTotals }),
  });
  const result = await ending.or(work).finally(() => {
    takenUp();
    facts.link(linkOf(course, connected));
  });
  const { reason, enoughMs } = result.verdict;
  if (result.outcome === 'abort') throw new GodwitError('policy-abort', reason, { enoughMs });
  return result;
}

function linkOf({ context }: Course, { link, lanes, compression }: Connected) {
  const tls = context.security.credentials !== undefined;
  return { lanes, tls, compression, roundTripMs: link.rttMs };
}

/**
 * A guest whose turn it is not goes on in rounds until it is: two that are suspended at once would have
 * half of the link that their forecasts rest on. An order to cut over does not wait.
 */
export function inTurn(
  consult: Consult,
  turn: Turn | undefined,
  steering: Pick<Steering, 'cutoverRequested'>,
): Consult {
  if (turn === undefined) return consult;
  return async (stats, limits) => {
    turn.giveBack(); // the last verdict was not the last word
    const consultation = await consult(stats, limits);
    const { verdict } = consultation;
    const stops = verdict.action === 'stop-and-copy' && endsAt(verdict, stats.when);
    if (!stops || turn.take() || steering.cutoverRequested) return consultation;
    const reason = `${verdict.reason}; another guest of the evacuation is suspended just now, and has the link`;
    return { ...consultation, verdict: { action: 'continue', reason } };
  };
}

/** Tells what the policy has decided, with its reason: once of a hold, as long as its limits are the same. */
function decisionLog(log: Course['context']['log']): (consulted: Consulted) => void {
  let held: Consulted['limits'] | undefined;
  return ({ stats, limits, verdict, problem }) => {
    const { action, reason } = verdict;
    if (action === 'continue' || (action === 'hold' && held === limits)) return;
    if (stats.when === 'at-rest' && action !== 'abort') return; // one more look decides
    if (action === 'hold') held = limits;
    const why = problem === undefined ? reason : `${reason} (${problem})`;
    log('info', `decision after round ${stats.iteration}: ${action}: ${why}`);
  };
}

function heldNow({ limits, cutoverRequested }: Steering): boolean {
  const { hold } = limits;
  return hold !== undefined && !cutoverRequested && holdAt(hold, CLOCK.wall()).opensMs !== 0;
}

/** Moving it all the same would be what the operator has ruled out. */
function notHeld(): GodwitError {
  const text =
    'the hypervisor has begun the cutover by itself while the guest was held; that is undone, and the guest runs on at its source';
  return new GodwitError('hypervisor-failed', text);
}

function tellVerdict({ link }: Connected, { stats, verdict }: Consulted): void {
  const { action, reason } = verdict;
  const { iteration } = stats;
  link.send('Verdict', { iteration, action, reason: reason.slice(0, MAX_REASON) });
}

function costs(
  { request, context, facts, layout }: Course,
  { link, lanes }: Connected,
  { rounds, peerJournalMs, verifyRate }: Accepted,
  lessons: Lessons,
): SuspensionCosts {
  return suspensionCosts({
    totalPages: layout.totalPages,
    lanes,
    syncMs: rounds.lastSyncMs,
    roundTripMs: link.rttMs ?? 1,
    journalMs: context.journal.appendMs,
    peerJournalMs,
    verifyRate: request.verify ? verifyRate : 0,
    caps: facts.caps,
    lessons,
  });
}
