import { BAND, MIN_EXPERIENCES, nearest, quantile, type Subject } from './calibration.ts';
import {
  type Forecast,
  type LaneRates,
  type Likely,
  type Span,
  TYPICAL_LANES,
  type Way,
} from './forecast.ts';
import type { GuestProfile } from './profile.ts';
import { enforcedSuspendMs, type PolicyLimits } from './stats.ts';

/*
 * What moves that have ended teach about the next one before it begins: how fast the way is, how the
 * guest dirties its memory while it is moved, and how far forecasts before a move have been off.
 * Pure, as calibration.ts; where it is kept is somebody else's.
 */

/** A forecast before a move, as far as it is compared with what came. Times are ms. */
export interface Foretold {
  /** A check, or the move itself as it began. */
  readonly by: 'check' | 'migrate';
  readonly verdict: Forecast['verdict'];
  /** Undefined unless the move was to succeed. */
  readonly totalMs: Likely | undefined;
  readonly suspensionMs: Likely | undefined;
  /** Expected values before lessons were applied: what lessons are made of. */
  readonly unlearned: {
    readonly totalMs: number | undefined;
    readonly suspensionMs: number | undefined;
  };
}

/** A forecast before a move as people see it. */
export interface MoveForecast extends Foretold {
  /** ISO 8601. */
  readonly time: string;
  /** One sentence. */
  readonly reason: string;
  /** What it rests on, and what nobody knows. */
  readonly basis: string;
  readonly rounds: Span | undefined;
  readonly enoughMs: number | undefined;
}

/** The way to a destination as somebody has measured it. */
export interface KnownWay extends Way {
  readonly roundTripMs: number;
  /** A record durable there, ms. */
  readonly peerJournalMs: number;
  /** Bytes per second at which it re-reads memory; 0 when it was not asked. */
  readonly verifyRate: number;
  /** Bytes per second that were not to be exceeded. */
  readonly cap: number | undefined;
}

/** The forecast of a check, until the guest is moved. */
export interface WaitingForecast extends Subject {
  readonly kind: 'forecast';
  readonly time: string;
  /** What the move was to be like: equal for a move that is asked for in the same words. */
  readonly terms: string;
  readonly forecast: MoveForecast | undefined;
  readonly way: KnownWay | undefined;
}

/** A move that has ended, however it did. */
export interface PastMove extends Subject {
  readonly kind: 'move';
  readonly time: string;
  readonly moved: boolean;
  /** The policy or the limit has kept it here. */
  readonly givenUp: boolean;
  readonly foretold: readonly Foretold[];
  /** From its beginning until the guest ran there; undefined also where a person has changed or held it. */
  readonly totalMs: number | undefined;
  readonly suspensionMs: number | undefined;
  /** Until its first page. */
  readonly setupMs: number;
  /** As the largest of its rounds has it; undefined when none tells. */
  readonly way: KnownWay | undefined;
  /** The guest as its rounds have seen it. */
  readonly seen: GuestProfile | undefined;
  /** How many times as fast as in its profile of then it dirtied pages; undefined where nothing tells. */
  readonly pace?: number | undefined;
}

/** Measurements of a way that count. */
const NEWEST_WAYS = 5;
const MIN_SPREAD = 0.1;
const MAX_SPREAD = 0.5;

/**
 * The way to a destination as the newest moves have found it, or else checks.
 * @param cap what is not to be exceeded, bytes per second: a way that was capped lower tells nothing
 */
export function wayTo(
  peer: string,
  all: readonly (PastMove | WaitingForecast)[],
  cap: number | undefined,
): { readonly way: KnownWay; readonly by: 'move' | 'check'; readonly count: number } | undefined {
  const tells = ({ cap: had }: KnownWay) => had === undefined || (cap !== undefined && cap <= had);
  const of = (kind: 'move' | 'forecast') =>
    all
      .flatMap((one) => (one.kind === kind && one.peer === peer && one.way ? [one.way] : []))
      .filter(tells)
      .slice(-NEWEST_WAYS);
  const moves = of('move');
  const ways = moves.length > 0 ? moves : of('forecast');
  const newest = ways.at(-1);
  if (newest === undefined) return undefined;
  const rates = ways.map(({ rate }) => rate);
  const rate = quantile(rates, 0.5);
  const half = (Math.max(...rates) - Math.min(...rates)) / 2 / rate;
  const spread = Math.min(MAX_SPREAD, Math.max(MIN_SPREAD, newest.spread, half));
  const way = { ...newest, rate: Math.min(rate, cap ?? rate), spread };
  return { way, by: moves.length > 0 ? 'move' : 'check', count: ways.length };
}

/** The guest as its last move has seen it; undefined when there is none, or it had other memory then. */
export function seenOf(
  { guest, hypervisor, totalPages }: Subject,
  moves: readonly PastMove[],
): GuestProfile | undefined {
  const last = moves.findLast((one) => one.guest === guest && one.seen !== undefined);
  if (last?.hypervisor !== hypervisor || last.totalPages !== totalPages) return undefined;
  return last.seen;
}

/** What a move takes until its first page; undefined while too little is known. */
export function setupOf(subject: Subject, moves: readonly PastMove[]): number | undefined {
  const near = nearest(subject, moves);
  if (near.length < MIN_EXPERIENCES) return undefined;
  return quantile(
    near.map(({ setupMs }) => setupMs),
    0.5,
  );
}

/** Newest moves that tell how fast lanes are. */
const NEWEST_LANES = 10;
/** Of a link's cap: a way that comes so near to it was held up by that. */
const CAPPED = 0.9;
/** Bytes on the wire for a byte of pages: what has more was not compressed. */
const COMPRESSED = 0.95;

/**
 * How fast lanes are between the two hosts: what the newest moves have reached, those left out that their
 * cap held up. Typical ones where too few tell.
 */
export function laneRatesOf(
  { hypervisor, peer }: Pick<Subject, 'hypervisor' | 'peer'>,
  moves: readonly PastMove[],
): LaneRates {
  const rates: Record<keyof LaneRates, number[]> = { plain: [], compressed: [] };
  for (const { way, seen, ...move } of moves) {
    const share = seen?.compressedShare;
    if (move.hypervisor !== hypervisor || move.peer !== peer) continue;
    if (way === undefined || share === undefined || way.rate > (way.cap ?? Infinity) * CAPPED)
      continue;
    const kind = share < COMPRESSED ? 'compressed' : 'plain';
    rates[kind].push(way.rate / share / way.lanes);
  }
  const usual = (kind: keyof LaneRates) => {
    const newest = rates[kind].slice(-NEWEST_LANES);
    return newest.length < MIN_EXPERIENCES ? TYPICAL_LANES[kind] : quantile(newest, 0.5);
  };
  return { plain: usual('plain'), compressed: usual('compressed') };
}

/** What came for each that was foretold; none while too little is known. */
export interface MoveLessons {
  readonly totalMs: readonly number[];
  readonly suspensionMs: readonly number[];
}

/** Of the likest moves that were foretold by the same way: what came, as factors on the unlearned figure. */
export function moveLessonsFor(
  subject: Subject,
  by: Foretold['by'],
  moves: readonly PastMove[],
): MoveLessons {
  const ratios = (figure: 'totalMs' | 'suspensionMs') => {
    const pairs = moves.flatMap((move) =>
      move.foretold.flatMap((told) => {
        const [came, was] = [move[figure], told.unlearned[figure]];
        if (told.by !== by || !move.moved || came === undefined || !was) return [];
        return [{ ...move, ratio: came / was }];
      }),
    );
    const near = nearest(subject, pairs);
    return near.length < MIN_EXPERIENCES ? [] : near.map(({ ratio }) => ratio);
  };
  return { totalMs: ratios('totalMs'), suspensionMs: ratios('suspensionMs') };
}

/**
 * A forecast as those before it have taught. What they were off by in the median is taken out; the
 * band is what nine of ten were within, and as wide as it would have been for as long as there are few.
 */
export function learned(forecast: Forecast, lessons: MoveLessons, limits: PolicyLimits): Forecast {
  const { totalMs, enoughMs } = forecast;
  if (totalMs === undefined) return forecast; // nothing will come that could be compared
  const { suspensionMs } = forecast;
  const next = {
    ...forecast,
    totalMs: scaled(totalMs, lessons.totalMs),
    suspensionMs: scaled(suspensionMs, lessons.suspensionMs),
    enoughMs: enoughMs && Math.round(enoughMs * Math.max(1, factorOf(lessons.suspensionMs))),
  };
  const doubt = doubtOf(next, limits);
  if (forecast.verdict !== 'yes' || doubt === undefined) return next;
  return { ...next, verdict: 'perhaps', reason: `${doubt}; by the profile alone: ${next.reason}` };
}

function doubtOf({ suspensionMs, totalMs }: Forecast, limits: PolicyLimits): string | undefined {
  const suspension = enforcedSuspendMs(limits) ?? Number.POSITIVE_INFINITY;
  const learnt = 'as earlier moves that were foretold have come';
  if (suspensionMs.expected > suspension)
    return `${learnt}, the guest would be suspended for about ${Math.round(suspensionMs.expected)} ms, longer than the enforced limit`;
  if ((totalMs?.expected ?? 0) > (limits.timeoutMs ?? Number.POSITIVE_INFINITY))
    return `${learnt}, the move would take longer than --timeout`;
  return undefined;
}

function factorOf(ratios: readonly number[]): number {
  return ratios.length === 0 ? 1 : quantile(ratios, 0.5);
}

function scaled(likely: Likely, ratios: readonly number[]): Likely {
  if (ratios.length === 0) return likely;
  const factor = factorOf(ratios);
  const expected = likely.expected * factor;
  const band = [
    ...ratios.map((ratio) => ratio / factor),
    ...[likely.low / likely.expected, likely.high / likely.expected],
  ];
  return {
    low: expected * Math.min(1, quantile(band, BAND.low)),
    expected,
    high: expected * Math.max(1, quantile(band, BAND.high)),
  };
}
