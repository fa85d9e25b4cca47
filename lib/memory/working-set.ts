import { PageSet } from './page-set.ts';

/** Distinct pages dirtied within windows of one length, over all windows of that length. */
export interface WindowPages {
  /** Mean over them: what was meant, and what the machine's timers have added. */
  readonly windowMs: number;
  /** Median and 90th percentile. */
  readonly pages: number;
  readonly high: number;
}

/** What one window has shown. */
export interface SeenWindow {
  readonly ms: number;
  readonly pages: number;
}

interface Half {
  readonly set: PageSet;
  readonly ms: number;
}

/**
 * Folds syncs of a dirty log into windows of doubling length: two neighbours of a length are one of
 * the next. Keeps one page set for each length, and one of everything.
 */
export class WorkingSet {
  readonly #all: PageSet;
  /** By doublings, the earlier half of a window whose later half is still to come. */
  readonly #halves: (Half | undefined)[] = [];
  readonly #seen: SeenWindow[][] = [];

  constructor(pfnEnd: number) {
    this.#all = new PageSet(pfnEnd);
  }

  /** Takes over what was dirtied in the `ms` since the sync before. */
  add(dirty: PageSet, ms: number): void {
    this.#all.addSet(dirty);
    let window: Half = { set: dirty, ms };
    for (let doublings = 0; ; doublings++) {
      const seen = this.#seen[doublings] ?? [];
      this.#seen[doublings] = seen;
      seen.push({ ms: window.ms, pages: window.set.count() });
      const earlier = this.#halves[doublings];
      this.#halves[doublings] = earlier === undefined ? window : undefined;
      if (earlier === undefined) return;
      earlier.set.addSet(window.set);
      window = { set: earlier.set, ms: earlier.ms + window.ms };
    }
  }

  /** Pages per second, as these syncs count them: a page that each of them finds counts each time. */
  get dirtyRate(): number {
    return rateOf(this.#seen[0] ?? []);
  }

  /** The shortest windows first; the last one is all that was added. */
  get windows(): readonly WindowPages[] {
    const windows = this.#seen.map(summary);
    const [syncs = []] = this.#seen;
    if (syncs.length === 0 || syncs.length === 2 ** (windows.length - 1)) return windows;
    const ms = syncs.reduce((sum, sync) => sum + sync.ms, 0);
    return [...windows, summary([{ ms, pages: this.#all.count() }])];
  }
}

/** Windows of one length, at least one, in a line. */
export function summary(seen: readonly SeenWindow[]): WindowPages {
  const pages = seen.map((window) => window.pages).sort((a, b) => a - b);
  const ms = seen.reduce((sum, window) => sum + window.ms, 0);
  return {
    windowMs: Math.round(ms / seen.length),
    pages: percentile(pages, 0.5),
    high: percentile(pages, 0.9),
  };
}

/** Pages per second over windows of one length; 0 of none. */
export function rateOf(seen: readonly SeenWindow[]): number {
  const pages = seen.reduce((sum, window) => sum + window.pages, 0);
  const ms = seen.reduce((sum, window) => sum + window.ms, 0);
  return ms === 0 ? 0 : (pages * 1000) / ms;
}

/** The least value that so large a share of them does not exceed; they rise. */
function percentile(values: readonly number[], share: number): number {
  return values[Math.ceil(values.length * share) - 1]!;
}
