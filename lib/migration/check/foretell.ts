import { asGodwitError } from '../../errors.ts';
import { log } from '../../log.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { Subject } from '../../precopy/calibration.ts';
import { suspensionCosts } from '../../precopy/costs.ts';
import { type Forecast, forecastMove, SETUP_MS, type Way } from '../../precopy/forecast.ts';
import { GUESSED_PACE, PACE_UNDER_WAY, paceBy, rehearsedPace } from '../../precopy/pace.ts';
import {
  laneRatesOf,
  learned,
  type MoveForecast,
  type MoveLessons,
  moveLessonsFor,
  seenOf,
  setupOf,
  wayTo,
} from '../../precopy/past-moves.ts';
import { contractPolicy } from '../../precopy/policy/contract.ts';
import { xenPolicy } from '../../precopy/policy/xen.ts';
import type { GuestProfile } from '../../precopy/profile.ts';
import type { Policy, PolicyLimits } from '../../precopy/stats.ts';
import { plural } from '../../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../../units.ts';
import type { Experiences } from '../experiences.ts';
import type { MigrationRequest } from '../view.ts';

/** Those that can be asked beforehand. */
const POLICIES: Readonly<Record<MigrationRequest['policy'], Policy | undefined>> = {
  contract: contractPolicy,
  xen: xenPolicy,
  custom: undefined,
};

/** A profile counts video memory and firmware or does not; beyond this share it is of another guest. */
const OTHER_SIZE = 0.25;

/** A move that somebody asks for. */
export interface Asked {
  readonly request: MigrationRequest;
  readonly limits: PolicyLimits;
  readonly subject: Subject;
  /** Of disks that go with the guest. */
  readonly diskBytes?: number;
  readonly experiences: Pick<Experiences, 'lessonsFor' | 'moves' | 'ways' | 'foretoldBy'>;
}

/** What a forecast needs of both hosts and of the way between them. */
export interface KnownHosts {
  readonly profile: GuestProfile | undefined;
  /** The profile is what the guest's last move has seen of it. */
  readonly underWay: boolean;
  readonly way: Way & { readonly roundTripMs: number };
  /** A record durable on either host, ms. */
  readonly journalMs: number;
  readonly peerJournalMs: number;
  /** Bytes per second at which the destination re-reads memory. */
  readonly verifyRate: number;
}

/** Equal for moves that are asked for in the same words, whoever asks. */
export function wordsOf({ guest: _, host, port, by, ...asked }: MigrationRequest): string {
  return JSON.stringify(Object.entries(asked).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** A forecast as lessons have made it, and what it was before. */
export interface Forecasting {
  readonly forecast: Forecast;
  readonly unlearned: Forecast;
  readonly lessons: MoveLessons;
}

/** The rounds of the move on paper, as far as what is known goes. */
export function forecastOf(
  by: MoveForecast['by'],
  { request, limits, subject, diskBytes = 0, experiences }: Asked,
  { profile, underWay, way, journalMs, peerJournalMs, verifyRate }: KnownHosts,
): Forecasting {
  const { policy, verify, bandwidth, suspendBandwidth } = request;
  const totalPages = Math.max(subject.totalPages, profile?.totalPages ?? 0);
  const costs = suspensionCosts({
    caps: { bandwidth, suspendBandwidth },
    totalPages,
    lanes: way.lanes,
    syncMs: 0,
    roundTripMs: way.roundTripMs,
    journalMs,
    peerJournalMs,
    verifyRate: verify ? verifyRate : 0,
    lessons: experiences.lessonsFor(subject),
  });
  // Disks are copied before the first page.
  const rate = Math.min(way.rate, bandwidth ?? Number.POSITIVE_INFINITY);
  const setupMs = (setupOf(subject, experiences.moves) ?? SETUP_MS) + (diskBytes / rate) * 1000;
  const pace = underWay
    ? PACE_UNDER_WAY
    : ((profile && rehearsedPace(profile)) ?? paceBy(subject, experiences.moves) ?? GUESSED_PACE);
  const unlearned = forecastMove({
    ...{ totalPages, profile, pace, way, costs, limits, setupMs },
    laneRates: laneRatesOf(subject, experiences.moves),
    policy: POLICIES[policy],
  });
  const lessons = moveLessonsFor(subject, by, experiences.moves);
  return { forecast: learned(unlearned, lessons, limits), unlearned, lessons };
}

/** As it is shown, kept and compared with what comes. */
export function moveForecast(
  by: MoveForecast['by'],
  { forecast, unlearned }: Omit<Forecasting, 'lessons'>,
  basis: string,
): MoveForecast {
  const { verdict, reason, rounds, enoughMs, totalMs } = forecast;
  const told = totalMs !== undefined;
  const time = new Date().toISOString();
  return {
    ...{ by, time, verdict, reason, basis, rounds, enoughMs, totalMs },
    suspensionMs: told ? forecast.suspensionMs : undefined,
    unlearned: {
      totalMs: unlearned.totalMs?.expected,
      suspensionMs: told ? unlearned.suspensionMs.expected : undefined,
    },
  };
}

/**
 * The forecast of a move that begins: of what is known already, since nothing is measured and nobody
 * waits for it. A check that has just foretold the same move knows more.
 * @param journalMs a record durable here, ms
 * @param kept the guest's newest profile
 */
export function foretell(
  asked: Asked & { readonly arrivesPaused: boolean },
  journalMs: number,
  kept: GuestProfile | undefined,
): readonly MoveForecast[] {
  const { request, subject, experiences } = asked;
  const checked = experiences.foretoldBy(subject, wordsOf(request));
  const own = ownForecast(asked, journalMs, kept);
  return checked === undefined ? [own] : [own, checked];
}

function ownForecast(
  asked: Asked & { readonly arrivesPaused: boolean },
  journalMs: number,
  kept: GuestProfile | undefined,
): MoveForecast {
  try {
    const { request, subject, experiences, arrivesPaused } = asked;
    const { profile, underWay, text } = knownGuest(subject, experiences, arrivesPaused, kept);
    const known = wayTo(subject.peer, experiences.ways, request.bandwidth);
    const basis = `${wayInWords(known)}; ${text}`;
    if (known === undefined)
      return unknown(`how fast the link to ${request.host} is was never measured`, basis);
    const { way } = known;
    const lanes = request.lanes ?? way.lanes;
    const compresses = request.compression === 'auto' && way.compresses;
    const { peerJournalMs, verifyRate } = way;
    const measured = { ...way, lanes, compresses };
    const hosts = { profile, underWay, way: measured, journalMs, peerJournalMs };
    return moveForecast('migrate', forecastOf('migrate', asked, { ...hosts, verifyRate }), basis);
  } catch (thrown) {
    // A move does not fail because nobody can foretell it.
    const { message } = asGodwitError(thrown);
    log('warn', `no forecast before the move: ${message}`, asked.request.guest);
    return unknown(message, '');
  }
}

function unknown(reason: string, basis: string): MoveForecast {
  const verdict = 'unknown';
  const none = { totalMs: undefined, suspensionMs: undefined };
  const more = { rounds: undefined, enoughMs: undefined };
  const time = new Date().toISOString();
  return { by: 'migrate', time, verdict, reason, basis, ...none, ...more, unlearned: none };
}

/** The guest's own part: by the newer one of its profile and its last move. */
function knownGuest(
  subject: Subject,
  { moves }: Asked['experiences'],
  arrivesPaused: boolean,
  kept: GuestProfile | undefined,
): Pick<KnownHosts, 'profile' | 'underWay'> & { readonly text: string } {
  const { guest, totalPages } = subject;
  const seen = seenOf(subject, moves);
  const newest = seen !== undefined && (kept?.time ?? '') < seen.time ? seen : kept;
  const content = {
    zeroShare: newest?.zeroShare ?? kept?.zeroShare ?? seen?.zeroShare,
    compressedShare: newest?.compressedShare ?? kept?.compressedShare ?? seen?.compressedShare,
  };
  const blank = { guest, time: '', ms: 0, totalPages, workingSet: [], ...content };
  if (arrivesPaused)
    return { profile: blank, underWay: false, text: 'a paused guest dirties nothing' };
  if (newest === undefined) {
    const text = `nobody has looked at how the guest dirties its memory ("agent-send profile ${guest}" does)`;
    return { profile: undefined, underWay: false, text };
  }
  const underWay = newest === seen;
  const where = underWay ? 'its last move' : sourceOf(newest);
  const text = `dirty pages as in ${where}, ${newest.time}`;
  return { profile: { ...newest, ...content }, underWay, text };
}

function sourceOf({ method }: GuestProfile): string {
  return method === 'rehearsal' ? 'its rehearsal' : 'its profile';
}

/** @param kept a guest's newest profile. @throws whatever; then there is none, as when it is of another guest */
export function keptProfile(
  { totalPages }: Subject,
  kept: () => GuestProfile | undefined,
): GuestProfile | undefined {
  try {
    const profile = kept();
    return profile && isOfGuest(profile, totalPages) ? profile : undefined;
  } catch {
    return undefined; // a check says why
  }
}

/** The guest had about as much memory when it was taken. */
export function isOfGuest(profile: GuestProfile, totalPages: number): boolean {
  return Math.abs(profile.totalPages - totalPages) <= totalPages * OTHER_SIZE;
}

function wayInWords(known: ReturnType<typeof wayTo>): string {
  if (known === undefined) return 'no check and no move went there yet';
  const { way, by, count } = known;
  const last = count > 1 ? `${plural(count, by)} there` : `${by} there`;
  return `link ${formatRate(way.rate)} as in the last ${last}`;
}

/** What a check has measured of the way, in a few words. */
export function measuredInWords(way: Way, profile: GuestProfile | undefined): string {
  const link = `link ${formatRate(way.rate)} as measured`;
  if (profile === undefined) return `${link}; no profile`;
  const memory = formatSize(profile.totalPages * PAGE_SIZE);
  return profile.ms === 0
    ? `${link}; a paused guest dirties nothing`
    : `${link}; dirty pages of ${memory} as in ${sourceOf(profile)}, ${profile.time}, over ${formatDuration(profile.ms)}`;
}
