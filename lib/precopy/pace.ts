import type { SeenWindow } from '../memory/working-set.ts';
import { BAND, MIN_EXPERIENCES, nearest, quantile, type Subject } from './calibration.ts';
import type { Likely, Span } from './forecast.ts';
import type { PastMove } from './past-moves.ts';
import { type GuestProfile, pagesWithin, type WindowPages } from './profile.ts';

/*
 * How many times as fast as it was seen before a guest dirties pages while it is moved. Pure.
 */

/** Until moves have shown it: 2 to 3 times (KubeVirt VEP 246). */
export const GUESSED_PACE: Likely = { low: 1, expected: 2, high: 3 };
/** Of a guest that was seen under way. */
export const PACE_UNDER_WAY: Likely = { low: 0.5, expected: 1, high: 1.5 };

/** Paces that are looked for, and how close. */
const REACH = 16;
const CLOSE = 1.005;
/** A window tells when a pace so many times as high would have dirtied so many times the pages. */
const FASTER = 1.5;
const MORE = 1.1;
/** Fewer pages are an accident. */
const MIN_PAGES = 64;

/**
 * At which pace a profile explains the windows that the rounds of a move have shown: the median of
 * theirs. Undefined when none tells, as of a guest that dirties nothing, or always the same pages.
 */
export function paceOf(
  { workingSet, totalPages }: Pick<GuestProfile, 'workingSet' | 'totalPages'>,
  windows: readonly WindowPages[],
): number | undefined {
  const paces = windows.flatMap(({ windowMs, pages }) => {
    const at = (pace: number) => pagesWithin(workingSet, 'pages', windowMs * pace, totalPages);
    if (Math.max(pages, at(1)) < MIN_PAGES) return [];
    let [low, high] = [1 / REACH, REACH];
    while (high > low * CLOSE) {
      const middle = Math.sqrt(low * high);
      if (at(middle) < pages) low = middle;
      else high = middle;
    }
    return at(low * FASTER) > at(low / FASTER) * MORE ? [low] : [];
  });
  return paces.length === 0 ? undefined : quantile(paces, 0.5);
}

/** Between which paces nine of ten passes of a rehearsal were, for its windows; undefined when few tell. */
export function spreadOf(
  profile: Pick<GuestProfile, 'workingSet' | 'totalPages'>,
  passes: readonly SeenWindow[],
): Span | undefined {
  const paces = passes.flatMap(
    ({ ms, pages }) => paceOf(profile, [{ windowMs: ms, pages, high: pages }]) ?? [],
  );
  if (paces.length < MIN_EXPERIENCES) return undefined;
  return { low: quantile(paces, BAND.low), high: quantile(paces, BAND.high) };
}

/**
 * That of a guest whose move was rehearsed: as in the rehearsal, with the spread of its passes. A stray
 * pass of a guest that is all but idle tells no more than a guess. Undefined of any other profile.
 */
export function rehearsedPace({ method, pace }: GuestProfile): Likely | undefined {
  if (method !== 'rehearsal') return undefined;
  if (pace === undefined) return PACE_UNDER_WAY;
  return {
    low: Math.max(PACE_UNDER_WAY.low, Math.min(1, pace.low)),
    expected: 1,
    high: Math.min(GUESSED_PACE.high, Math.max(1, pace.high)),
  };
}

/** The pace of the likest moves; as wide as without any for as long as there are few, and undefined of fewer. */
export function paceBy(subject: Subject, moves: readonly PastMove[]): Likely | undefined {
  const known = moves.flatMap((move) =>
    move.pace === undefined ? [] : [{ ...move, pace: move.pace }],
  );
  const paces = nearest(subject, known).map(({ pace }) => pace);
  if (paces.length < MIN_EXPERIENCES) return undefined;
  const expected = quantile(paces, 0.5);
  const all = [...paces, GUESSED_PACE.low, GUESSED_PACE.high];
  return {
    low: Math.min(expected, quantile(all, BAND.low)),
    expected,
    high: Math.max(expected, quantile(all, BAND.high)),
  };
}
