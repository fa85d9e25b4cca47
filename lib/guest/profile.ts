import { setTimeout as sleep } from 'node:timers/promises';
import { Crew } from '../crew/crew.ts';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { GuestLayout, type RegionFile } from '../memory/guest-layout.ts';
import { PageSet } from '../memory/page-set.ts';
import { type SeenWindow, type WindowPages, WorkingSet } from '../memory/working-set.ts';
import type { ContentShares } from '../pages/content-sample.ts';
import type { ContentData, ContentRequests } from '../pages/content-task.ts';
import type { ReadableGuest } from './guest.ts';
import { RUN_STATE_WORDS, type RunState } from './run-state.ts';

/** Between two syncs of the dirty log: about as long as the shorter suspensions that are asked for. */
const SYNC_MS = 100;

/**
 * How a guest is watched: by its dirty log, which sees every page that is written; by comparing a
 * sample of its pages at both ends of a window, which sees those whose bytes have changed; or by the
 * passes of a move that is begun and never ends, which see what it writes while it is moved.
 */
export type ProfileMethod = 'dirty-log' | 'page-sampling' | 'rehearsal';

/** A move that is begun for a profile, and goes nowhere. */
export interface Rehearsal {
  /** Bytes per second at which the hypervisor may send; undefined: as fast as it can. */
  readonly bandwidth?: number | undefined;
}

/** What is asked for. */
export interface Profiling {
  readonly ms: number;
  /** Undefined: nothing is moved, not even for show. */
  readonly rehearsal?: Rehearsal | undefined;
  /** Ends it; what it is aborted with is thrown. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: ProfileProgress) => void;
}

/** The latest window of a profile that is being taken. */
export interface ProfileProgress {
  readonly elapsedMs: number;
  readonly ms: number;
  readonly windowMs: number;
  readonly pages: number;
}

/** What was seen of a guest: a GuestProfile without whose and when. */
export interface Observation {
  readonly method: ProfileMethod;
  readonly ms: number;
  readonly totalPages: number;
  readonly workingSet: readonly WindowPages[];
  /** Pages per second, as syncs one shortest window apart count them. */
  readonly dirtyRate: number;
  readonly zeroShare: number | undefined;
  readonly compressedShare: number | undefined;
  /** Of a rehearsal: each of its passes. */
  readonly passes?: readonly SeenWindow[];
}

/**
 * Watches a running guest by its dirty log, which is off again when this settles. The caller closes it.
 * @throws GodwitError guest-not-running, guest-stopped, guest-died, hypervisor-failed, not-seen; what
 *   the signal is aborted with
 */
export async function profileReadable(
  guest: ReadableGuest,
  profiling: Profiling,
): Promise<Observation> {
  const { ms, signal } = profiling;
  const { name, regions } = guest.description;
  const over = Promise.withResolvers<never>();
  over.promise.catch(() => {}); // it may be over between two waits
  guest.onDeath(over.reject);
  guest.onStopped(() => over.reject(stoppedMeanwhile(name)));
  const onAbort = () => over.reject(signal.reason);
  signal.addEventListener('abort', onAbort);
  requireRunning(name, await guest.state());
  const content = new ContentSampling(guest.memory, ms);
  try {
    signal.throwIfAborted();
    const { windows, dirtyRate } = await watch(guest, profiling, over.promise);
    const seen = { workingSet: windows, dirtyRate, ms: windows.at(-1)!.windowMs };
    const shares = await Promise.race([content.shares(), over.promise]);
    const { totalPages } = new GuestLayout(regions);
    return { method: 'dirty-log', totalPages, ...seen, ...shares };
  } finally {
    signal.removeEventListener('abort', onAbort);
    await content.end();
  }
}

/** @param over rejects when there is nothing to watch any more */
async function watch(
  guest: ReadableGuest,
  { ms, onProgress }: Profiling,
  over: Promise<never>,
): Promise<WorkingSet> {
  const { pfnEnd } = new GuestLayout(guest.description.regions);
  const working = new WorkingSet(pfnEnd);
  try {
    await guest.startDirtyLog();
    const begun = performance.now();
    for (let last = begun; last - begun < ms; ) {
      await Promise.race([sleep(SYNC_MS), over]);
      const dirty = new PageSet(pfnEnd);
      await Promise.race([guest.syncDirtyLog(dirty), over]);
      const now = performance.now();
      onProgress({ elapsedMs: now - begun, ms, windowMs: now - last, pages: dirty.count() });
      working.add(dirty, now - last);
      last = now;
    }
    return working;
  } finally {
    // Of a hypervisor that does not hear it the log ends with the connection.
    await guest.stopDirtyLog().catch(() => {});
  }
}

/** A thread that looks at what the guest's pages hold, while the guest is watched. */
export class ContentSampling {
  readonly #crew: Crew | undefined;
  readonly #shares: Promise<ContentShares | undefined>;

  /**
   * @param files none where memory cannot be read
   * @param ms how long the guest is watched: the thread is through before that
   */
  constructor(files: readonly RegionFile[], ms: number) {
    // Of its own: who takes a profile may have no crew, and is in no hurry.
    if (files.length > 0) this.#crew = new Crew(1, []);
    this.#shares = this.#sample({ files, spreadMs: ms / 2 });
  }

  /** Undefined shares where memory could not be read; the log says why. */
  async shares(): Promise<{ [Share in keyof ContentShares]: ContentShares[Share] | undefined }> {
    return (await this.#shares) ?? { zeroShare: undefined, compressedShare: undefined };
  }

  async end(): Promise<void> {
    await this.#crew?.stop();
  }

  async #sample(data: ContentData): Promise<ContentShares | undefined> {
    const module = new URL('../pages/content-task.ts', import.meta.url);
    try {
      const task = this.#crew?.begin<ContentRequests>(module, data, () => {}); // it is asked for one thing
      return await task?.request('sample', undefined);
    } catch (thrown) {
      const { code, message } = thrown as GodwitError;
      if (code !== 'cancelled') log('warn', `memory cannot be sampled: ${message}`);
      return undefined;
    }
  }
}

/** @throws GodwitError guest-not-running */
export function requireRunning(guest: string, state: RunState): void {
  if (state === 'running') return;
  const text = `guest ${guest} ${RUN_STATE_WORDS[state]}; only a guest that runs has a profile`;
  throw new GodwitError('guest-not-running', text);
}

/** @throws GodwitError hypervisor-failed, when one is wanted of a guest that can have none */
export function requireNoRehearsal(guest: string, { rehearsal }: Profiling, why: string): void {
  if (rehearsal === undefined) return;
  const text = `a move of guest ${guest} cannot be rehearsed: ${why}`;
  throw new GodwitError('hypervisor-failed', text);
}

/** What was seen is no profile of a guest that runs. */
export function stoppedMeanwhile(guest: string): GodwitError {
  const text = `guest ${guest} was stopped while its profile was taken`;
  return new GodwitError('guest-stopped', text);
}
