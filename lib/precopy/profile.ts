import type { ProfileMethod } from '../guest/profile.ts';
import type { WindowPages } from '../memory/working-set.ts';

export type { WindowPages } from '../memory/working-set.ts';

/**
 * What a guest does to its memory while nothing moves it, or a rehearsal seems to: what a forecast
 * before the move rests on. Plain values, kept as JSON.
 */
export interface GuestProfile {
  readonly guest: string;
  /** When it was taken, ISO 8601, and for how long, ms. */
  readonly time: string;
  readonly ms: number;
  readonly totalPages: number;
  /**
   * Distinct pages dirtied within windows of that length, the shortest window first: the median and
   * the 90th percentile over the windows that fit into the profile. A dirty log also has the whole of
   * it as its last window.
   */
  readonly workingSet: readonly WindowPages[];
  /** Share of all pages that hold only zeros, 0 to 1; undefined where memory cannot be sampled. */
  readonly zeroShare: number | undefined;
  /** Compressed bytes for a byte of the other pages, as the lanes compress them; undefined likewise. */
  readonly compressedShare: number | undefined;
  /** Pages per second, as syncs one shortest window apart count them. */
  readonly dirtyRate?: number;
  readonly method?: ProfileMethod;
  /** Of a rehearsal: the paces of its passes for that of the windows, nine of ten of them; see `rehearsedPace`. */
  readonly pace?: { readonly low: number; readonly high: number };
}

/** How much the pages of one window are those of the next, and how even the windows are. */
export interface Steadiness {
  readonly windowMs: number;
  /** Share of a window's pages that the next window dirties again, 0 to 1. */
  readonly revisited: number;
  /** The 90th percentile of the windows' pages for one of their median, at least 1. */
  readonly spread: number;
}

/**
 * Of the longest windows of which the profile has eight: fewer say nothing of what is usual. Two
 * neighbours together have as many pages as both, less those that both have.
 * @returns undefined where there is nothing to compare, as of a guest that writes nothing
 */
export function steadiness({ workingSet, ms }: GuestProfile): Steadiness | undefined {
  const fitting = workingSet.filter(({ windowMs }) => windowMs * 8 <= ms);
  const one = fitting.at(-1) ?? workingSet[0];
  const two = workingSet[workingSet.indexOf(one!) + 1];
  if (one === undefined || two === undefined || one.pages === 0) return undefined;
  const revisited = Math.min(1, Math.max(0, 2 - two.pages / one.pages));
  return { windowMs: one.windowMs, revisited, spread: one.high / one.pages };
}

/**
 * Pages dirtied within a window, from a profile's curve: in a straight line between its points, and on
 * from the last one as between the last two, but never faster than over the whole. Pages are
 * counted once, so the curve is taken to rise with the window, up to all pages.
 */
export function pagesWithin(
  curve: readonly WindowPages[],
  seen: 'pages' | 'high',
  windowMs: number,
  totalPages: number,
): number {
  let [fromMs, from, slope] = [0, 0, 0];
  for (const point of curve) {
    const pages = Math.max(from, seen === 'high' ? Math.max(point.pages, point.high) : point.pages);
    const rise = (pages - from) / (point.windowMs - fromMs);
    if (windowMs <= point.windowMs) return Math.min(totalPages, from + rise * (windowMs - fromMs));
    slope = Math.min(rise, pages / point.windowMs);
    [fromMs, from] = [point.windowMs, pages];
  }
  return Math.min(totalPages, from + slope * (windowMs - fromMs));
}
