import { PAGE_SIZE, type RegionFile } from '../memory/guest-layout.ts';
import { rateOf, type SeenWindow, summary } from '../memory/working-set.ts';
import { ContentSampling, type Observation, type Profiling, stoppedMeanwhile } from './profile.ts';

/** A measurement cannot be ended: whoever gives up a profile waits for so long at most. */
export const LONGEST_WINDOW_MS = 8_000;

/** A hypervisor's own measurement of how many pages of a guest change, by a sample, one window at a time. */
export interface WindowMeter {
  /** The shortest window that is worth measuring, ms. */
  readonly shortestMs: number;
  /**
   * The pages that have changed in a window of that length; it cannot be ended.
   * @throws GodwitError guest-busy, hypervisor-failed, guest-died, not-seen
   */
  measure(ms: number): Promise<SeenWindow>;
}

/** A guest that is watched so. */
export interface Watched {
  readonly name: string;
  readonly memoryBytes: number;
  /** Where its memory can be read; none: what it holds is not known. */
  readonly files: readonly RegionFile[];
  /** Whether it has stopped since the profile was begun, if only for a moment. */
  readonly hasStopped: () => boolean;
}

/**
 * Watches a running guest by measurements of its hypervisor, one window after the other. Nothing is measured any
 * more when this settles. @throws GodwitError as `Guest.profile`
 */
export async function profileByWindows(
  meter: WindowMeter,
  { name, memoryBytes, files, hasStopped }: Watched,
  { ms, signal, onProgress }: Profiling,
): Promise<Observation> {
  const content = new ContentSampling(files, ms);
  let measuring: Promise<unknown> = Promise.resolve();
  try {
    const begun = performance.now();
    const seen = new Map<number, SeenWindow[]>();
    for (const windowMs of windowPlan(ms, meter.shortestMs)) {
      const elapsedMs = performance.now() - begun;
      // Each length once, whatever the hypervisor's own work between two windows has cost.
      if (seen.has(windowMs) && elapsedMs + windowMs > ms) continue;
      const measured = meter.measure(windowMs);
      measuring = measured.catch(() => {});
      const window = await unlessAborted(signal, measured);
      if (hasStopped()) throw stoppedMeanwhile(name);
      seen.set(windowMs, [...(seen.get(windowMs) ?? []), window]);
      onProgress({ elapsedMs, ms, windowMs: window.ms, pages: window.pages });
    }
    const byLength = [...seen.values()];
    return {
      method: 'page-sampling',
      ms: Math.round(performance.now() - begun),
      totalPages: memoryBytes / PAGE_SIZE,
      workingSet: byLength.map(summary),
      dirtyRate: rateOf(byLength[0]!),
      ...(await unlessAborted(signal, content.shares())),
    };
  } finally {
    await content.end();
    await measuring; // nothing ends it sooner
  }
}

/**
 * Lengths of the windows to be measured within `ms`, ms: doublings of the shortest one, each once and
 * then each for about as long in all, so that the short ones are seen often.
 */
export function windowPlan(ms: number, shortest: number): readonly number[] {
  const spent = new Map<number, number>();
  let left = ms;
  for (let length = shortest; length <= left && length <= LONGEST_WINDOW_MS; length *= 2) {
    spent.set(length, length);
    left -= length;
  }
  const plan = [...spent.keys()];
  for (;;) {
    const length = leastSpent(spent, left);
    if (length === undefined) return plan;
    spent.set(length, spent.get(length)! + length);
    plan.push(length);
    left -= length;
  }
}

/** The length of window for which the least time was spent, of those that fit into `left`; undefined: none does. */
export function leastSpent(spent: ReadonlyMap<number, number>, left: number): number | undefined {
  const fitting = [...spent].filter(([length]) => length <= left);
  if (fitting.length === 0) return undefined;
  return fitting.reduce((least, one) => (one[1] < least[1] ? one : least))[0];
}

function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', onAbort));
}
