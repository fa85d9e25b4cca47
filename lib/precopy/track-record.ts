import { type Experience, quantile } from './calibration.ts';
import type { PastMove } from './past-moves.ts';

/** How far forecasts were off. */
export interface Judged {
  /** Of what came, how far the expected value was off: the median, and what nine of ten did not exceed. */
  readonly medianError: number | undefined;
  readonly ninthError: number | undefined;
  /** Share of them inside the band; nine of ten are meant to be. */
  readonly inside: number | undefined;
}

/** How good the forecasts of some suspensions were, at the decision. */
export interface TrackRecord extends Judged {
  readonly hypervisor: string;
  /** The destination's address. */
  readonly peer: string;
  /** Suspensions that ended at the destination after a forecast; only these are judged. */
  readonly moved: number;
  readonly rolledBack: number;
}

/** How good forecasts before moves were. */
export interface ForetoldRecord {
  readonly hypervisor: string;
  /** The destination's address. */
  readonly peer: string;
  /** Forecasts of a move that was to succeed and did. */
  readonly moved: number;
  /** Moves that were to succeed and were given up, and those that succeeded all the same. */
  readonly misjudged: number;
  /** Of the whole time, and of the suspension. */
  readonly total: Judged;
  readonly suspension: Judged;
}

/** The newest of a hypervisor and a destination that are judged. */
const NEWEST = 100;

/** One for each hypervisor and destination, those with the most suspensions first. */
export function trackRecords(all: readonly Experience[]): TrackRecord[] {
  return grouped(all)
    .map(recordOf)
    .sort((a, b) => b.moved + b.rolledBack - (a.moved + a.rolledBack));
}

/** The same of forecasts before a move; none of moves that were not foretold. */
export function foretoldRecords(all: readonly PastMove[]): ForetoldRecord[] {
  return grouped(all.filter(({ foretold }) => foretold.length > 0))
    .map(foretoldRecordOf)
    .filter(({ moved, misjudged }) => moved + misjudged > 0)
    .sort((a, b) => b.moved - a.moved);
}

function grouped<One extends { readonly hypervisor: string; readonly peer: string }>(
  all: readonly One[],
): One[][] {
  const groups = Map.groupBy(all, ({ hypervisor, peer }) => `${hypervisor} ${peer}`);
  return [...groups.values()].map((group) => group.slice(-NEWEST));
}

function recordOf(group: readonly Experience[]): TrackRecord {
  const { hypervisor, peer } = group[0]!;
  const seen = group.flatMap(({ moved, ms, forecast }) =>
    moved && forecast !== undefined ? [{ ms, forecast }] : [],
  );
  const rolledBack = group.filter(({ moved }) => !moved).length;
  return { hypervisor, peer, moved: seen.length, rolledBack, ...judge(seen) };
}

function foretoldRecordOf(group: readonly PastMove[]): ForetoldRecord {
  const { hypervisor, peer } = group[0]!;
  const of = (figure: 'totalMs' | 'suspensionMs') =>
    judge(
      group.flatMap((move) =>
        move.foretold.flatMap((told) => {
          const [ms, forecast] = [move[figure], told[figure]];
          return move.moved && ms !== undefined && forecast !== undefined ? [{ ms, forecast }] : [];
        }),
      ),
    );
  const told = group.flatMap(({ moved, givenUp, foretold }) =>
    foretold.map(({ verdict }) => ({ moved, givenUp, verdict })),
  );
  return {
    hypervisor,
    peer,
    moved: told.filter(({ moved, verdict }) => moved && verdict !== 'no' && verdict !== 'unknown')
      .length,
    misjudged: told.filter(
      ({ moved, givenUp, verdict }) =>
        (verdict === 'yes' && givenUp) || (verdict === 'no' && moved),
    ).length,
    total: of('totalMs'),
    suspension: of('suspensionMs'),
  };
}

function judge(
  seen: readonly {
    readonly ms: number;
    readonly forecast: { readonly low: number; readonly expected: number; readonly high: number };
  }[],
): Judged {
  const errors = seen.map(({ ms, forecast }) => Math.abs(forecast.expected - ms) / ms);
  const inside = seen.filter(({ ms, forecast }) => forecast.low <= ms && ms <= forecast.high);
  const of = (share: number) => (errors.length === 0 ? undefined : quantile(errors, share));
  return {
    medianError: of(0.5),
    ninthError: of(0.9),
    inside: seen.length === 0 ? undefined : inside.length / seen.length,
  };
}
