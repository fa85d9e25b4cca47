import { GodwitError } from '../../lib/errors.ts';
import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import type { DestinationEvent } from '../../lib/ownership/destination-machine.ts';
import type { SourceEvent } from '../../lib/ownership/source-machine.ts';
import type { Side } from './hosts.ts';
import { AT, destinationPlaces, sourcePlaces } from './places.ts';

/*
 * What befalls the agents, as data. The fault points are those at which the machines themselves act:
 * each course below is told as the events that either machine sees, and its effects are the places.
 */

/** How a migration goes when nobody is harmed. */
export interface Course {
  readonly guest: Partial<BootOptions>;
  readonly maxSuspendMs: number;
  /** Bytes per second. */
  readonly bandwidth?: number;
  /** Stop-and-copy at once. */
  readonly cutover?: true;
  /** An agent stands still here, and while it does, this happens. */
  readonly meanwhile?: { readonly side: Side; readonly fault: string; readonly act: Act };
}

type Act = 'cancel at the destination' | 'kill the destination guest';

export const QUIET = {
  workload: 'hot-set',
  rate: 1000,
  workingSet: '4MiB',
  memory: '32MiB',
} as const;

/** As long on its way as a test wants it to be, when it is moved slowly. */
export const LARGE = { ...QUIET, memory: '64MiB', content: 'random=100' } as const;

export const MOVES: Course = { guest: QUIET, maxSuspendMs: 2000 };
/** The deadline passes while the last pages are on their way. */
export const ROLLS_BACK: Course = {
  guest: LARGE,
  maxSuspendMs: 100,
  bandwidth: 4_000_000,
  cutover: true,
};
/** Commit reaches a destination that has given up. */
export const CANCELLED_THERE: Course = {
  ...MOVES,
  meanwhile: {
    side: 'source',
    fault: `stop@${AT.toSendCommit}`,
    act: 'cancel at the destination',
  },
};
/** Commit reaches a destination whose hypervisor is gone. */
export const DOES_NOT_START: Course = {
  ...MOVES,
  meanwhile: {
    side: 'destination',
    fault: `stop@${AT.toResume}`,
    act: 'kill the destination guest',
  },
};

/** What happens to agents in a migration, and to the network between them. */
export interface Ordeal {
  readonly name: string;
  readonly course: Course;
  /** Where each agent is killed or stopped: the process that was there, then the next one, … */
  readonly faults?: { readonly [S in Side]?: readonly string[] };
  /** What strikes by the clock, knowing nothing of the agents. */
  readonly strike?: Strike;
}

export interface Strike {
  readonly at: 'source' | 'destination' | 'both' | 'network';
  readonly how: 'kill' | 'stop' | 'cut';
  /** The delay counts from the start of the migration, or from when the guest is seen suspended. */
  readonly from: 'start' | 'suspension';
  readonly afterMs: number;
  /** How long it is stopped, cut or away. */
  readonly forMs: number;
}

const error = new GodwitError('cancelled', 'an ordeal');
const suspend: SourceEvent = { type: 'suspend' };
const prepared: SourceEvent = { type: 'prepared', epoch: 1 };
const sealed: SourceEvent = { type: 'sealed', late: undefined };
const running: SourceEvent = { type: 'running', epoch: 1 };
const refused: SourceEvent = { type: 'refused', epoch: 1, error };
const closed: SourceEvent = { type: 'closed', epoch: 1 };
const recovered: SourceEvent = { type: 'recovered', epoch: 1, state: 'prepared' };
const complete: DestinationEvent = { type: 'complete' };
const commit: DestinationEvent = { type: 'commit', epoch: 1 };
const released: DestinationEvent = { type: 'released', epoch: 1 };
const aborted: DestinationEvent = { type: 'aborted', epoch: 1, error };
const recover: DestinationEvent = { type: 'recover' };
const abort = { type: 'abort', error } as const;
const restart = { type: 'restart', error } as const;

/** Every fault point of the handover: killed there once. */
export function killsAtFaultPoints(): Ordeal[] {
  return [
    ...killsOf('source', MOVES, sourcePlaces([], [suspend, prepared, sealed, running, closed])),
    ...killsOf('destination', MOVES, destinationPlaces([], [complete, commit, released])),
    ...killsOf('source', ROLLS_BACK, sourcePlaces([suspend], [abort, closed])),
    ...killsOf('destination', ROLLS_BACK, destinationPlaces([], [aborted])),
    ...killsOf('source', DOES_NOT_START, sourcePlaces([suspend, sealed], [refused, closed])),
    ...killsOf('destination', CANCELLED_THERE, destinationPlaces([complete], [abort, aborted])),
  ];
}

/** Killed, and killed again in the recovery. */
export function killsInRecovery(): Ordeal[] {
  const source = (first: string, before: SourceEvent[], then: SourceEvent[]) =>
    twice('source', `source.${first}`, sourcePlaces(before, then));
  const destination = (first: string, before: DestinationEvent[], then: DestinationEvent[]) =>
    twice('destination', `destination.${first}`, destinationPlaces(before, then));
  return [
    ...source('after.suspend-guest', [suspend], [restart, recovered, closed]),
    ...source('after.journal-committed', [suspend, sealed], [restart, recovered, running, closed]),
    ...source('after.journal-released', [suspend, sealed, running], [restart, recovered, closed]),
    ...destination('before.journal-prepared', [], [restart]),
    ...destination('before.journal-running', [complete], [restart, recover, commit, released]),
    ...destination(
      'after.journal-running',
      [complete, commit],
      [restart, recover, commit, released],
    ),
  ];
}

/** Both are killed at places that the other one has not heard of yet. */
export function killsOfBoth(): Ordeal[] {
  const pairs = [
    ['before.journal-committed', 'after.send-prepared'],
    ['after.journal-committed', 'after.send-prepared'],
    ['after.send-commit', 'before.journal-running'],
    ['after.send-commit', 'after.journal-running'],
    ['after.send-commit', 'after.resume-guest'],
    ['before.journal-released', 'after.send-running'],
    ['after.journal-released', 'before.journal-ended'],
    ['before.journal-ended', 'after.send-closed'],
  ] as const;
  return pairs.map(([atSource, atDestination]) => ({
    name: `kill source.${atSource} and destination.${atDestination}`,
    course: MOVES,
    faults: {
      source: [`kill@source.${atSource}`],
      destination: [`kill@destination.${atDestination}`],
    },
  }));
}

/** Stopped at each fault point for longer than every limit, then continued. */
export function stopsAtFaultPoints(): Ordeal[] {
  const source = sourcePlaces([], [suspend, prepared, sealed, running, closed]);
  const destination = destinationPlaces([], [complete, commit, released]);
  const stop = (side: Side) => (place: string) => faulty(side, MOVES, [`stop@${place}`]);
  return [...source.map(stop('source')), ...destination.map(stop('destination'))];
}

/** Strikes that know nothing of the code, at moments out of `random`. */
export function strikesAtRandom(random: () => number, count: number, network: boolean): Ordeal[] {
  const sides = ['source', 'destination', 'both'] as const;
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  return Array.from({ length: count }, (_, i): Ordeal => {
    const how = (['kill', network ? 'cut' : 'kill', 'kill', 'stop'] as const)[i % 4]!;
    const at = how === 'cut' ? 'network' : pick(sides);
    const from = pick(['start', 'suspension'] as const);
    const afterMs = Math.round(random() * (from === 'start' ? 900 : 40));
    const forMs = Math.round(how === 'kill' ? random() * 500 : 100 + random() * 3500);
    const name = `${how} ${at} ${afterMs} ms after the ${from}, for ${forMs} ms`;
    return { name, course: SLOW, strike: { at, how, from, afterMs, forMs } };
  });
}

/** A precopy of about a second, so that most moments are moments of precopy. */
const SLOW: Course = {
  guest: { ...QUIET, content: 'random=100' },
  maxSuspendMs: 2000,
  bandwidth: 60_000_000,
};

function killsOf(side: Side, course: Course, places: readonly string[]): Ordeal[] {
  return places.map((place) => faulty(side, course, [`kill@${place}`]));
}

function twice(side: Side, first: string, places: readonly string[]): Ordeal[] {
  return places.map((place) => faulty(side, MOVES, [`kill@${first}`, `kill@${place}`]));
}

function faulty(side: Side, course: Course, faults: readonly string[]): Ordeal {
  const name = faults.join(', then ').replaceAll('@', ' ');
  return { name: nameIn(course, name), course, faults: { [side]: faults } };
}

function nameIn({ meanwhile, cutover }: Course, name: string): string {
  const when = meanwhile?.act ?? (cutover && 'deadline missed');
  return when ? `${name} (${when})` : name;
}
