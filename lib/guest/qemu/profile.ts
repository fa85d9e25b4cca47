import fs from 'node:fs';
import { CHUNK_PAGES, PAGE_SIZE, type RegionFile } from '../../memory/guest-layout.ts';
import { rateOf, type SeenWindow, summary } from '../../memory/working-set.ts';
import {
  ContentSampling,
  type Observation,
  type Profiling,
  requireRunning,
  stoppedMeanwhile,
} from '../profile.ts';
import type { GuestDefinition, RamFile } from './definition.ts';
import { DirtyRate, LONGEST_WINDOW_MS } from './dirty-rate.ts';
import { memoryBytesOf } from './memory-size.ts';
import { requireIdle } from './migration.ts';
import { QmpClient } from './qmp.ts';
import { runStateOf } from './run-state.ts';

/**
 * Watches a running guest by QEMU's own measurements, one window after the other: nothing of them is
 * seen but how many pages changed. Holds the monitor meanwhile.
 * @throws GodwitError as `Guest.profile`
 */
export async function profileQemu(
  definition: GuestDefinition,
  { ms, signal, onProgress }: Profiling,
): Promise<Observation> {
  const { name, ram } = definition;
  const qmp = await QmpClient.connect(definition.qmp);
  let content: ContentSampling | undefined;
  let measuring: Promise<unknown> = Promise.resolve();
  let stopped = false;
  qmp.on('STOP', () => {
    stopped = true;
  });
  try {
    const { status } = await qmp.execute<{ status: string }>('query-status');
    requireRunning(name, runStateOf(status));
    await requireIdle(qmp);
    const memoryBytes = await memoryBytesOf(qmp);
    const rate = new DirtyRate(qmp, memoryBytes);
    content = new ContentSampling(regionFilesOf(ram), ms);
    const begun = performance.now();
    const seen = new Map<number, SeenWindow[]>();
    for (const windowMs of windowPlan(ms, rate.shortestMs)) {
      const elapsedMs = performance.now() - begun;
      // Each length once, whatever QEMU's own work between two windows has cost.
      if (seen.has(windowMs) && elapsedMs + windowMs > ms) continue;
      const measured = rate.measure(windowMs);
      measuring = measured.catch(() => {});
      const window = await unlessAborted(signal, measured);
      if (stopped) throw stoppedMeanwhile(name);
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
    await content?.end();
    await measuring; // nothing ends it sooner
    qmp.close();
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
    const fitting = [...spent].filter(([length]) => length <= left);
    if (fitting.length === 0) return plan;
    const [length, time] = fitting.reduce((least, one) => (one[1] < least[1] ? one : least));
    spent.set(length, time + length);
    plan.push(length);
    left -= length;
  }
}

function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', onAbort));
}

/** As they lie: what cannot be seen has no region. */
function regionFilesOf(ram: readonly RamFile[]): RegionFile[] {
  let firstPfn = 0;
  return ram.flatMap(({ block, file }) => {
    const pages = Math.floor(sizeOf(file) / PAGE_SIZE);
    const region = { name: block, firstPfn, pages };
    firstPfn += Math.ceil(pages / CHUNK_PAGES) * CHUNK_PAGES;
    return pages === 0 ? [] : [{ region, path: file, offset: 0 }];
  });
}

function sizeOf(file: string): number {
  try {
    return fs.statSync(file).size;
  } catch {
    return 0;
  }
}
