import type { Crew } from '../../crew/crew.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { log } from '../../log.ts';
import { GuestLayout, PAGE_SIZE } from '../../memory/guest-layout.ts';
import { rateOf, type SeenWindow, summary, type WindowPages } from '../../memory/working-set.ts';
import { formatDuration } from '../../units.ts';
import {
  type Observation,
  type Profiling,
  requireNoRehearsal,
  requireRunning,
  stoppedMeanwhile,
} from '../profile.ts';
import { leastSpent, windowPlan } from '../windows.ts';
import type { GuestDefinition } from './definition.ts';
import { regionsOf } from './device-model.ts';
import type { KeptSettings } from './kept-settings.ts';
import { STILL } from './migration.ts';
import { type Departing, type Outgoing, openOutgoing } from './outgoing.ts';
import { PassMeter } from './pass-meter.ts';

/** QEMU parcels out its bandwidth in windows of this length, and so no pass can be steered to be shorter. */
const SHORTEST_MS = 100;
/** A page with its head in the stream, and a little more: a few pages left over would take another window. */
const STREAM_PAGE_BYTES = PAGE_SIZE * 1.02;

/** Whose move is rehearsed, and what that takes. */
export interface Rehearsed {
  readonly definition: GuestDefinition;
  readonly crew: Crew;
  /** As for `connectQemuSource`. */
  readonly kept: KeptSettings;
}

/**
 * Watches a running guest by the passes of a migration of its QEMU that nobody receives: what is sent is
 * counted and dropped, and the word without which QEMU does not stop the guest is never given. Passes
 * after the first are spread over windows of doubling lengths. Holds the monitor meanwhile.
 * @throws GodwitError as `Guest.profile`; bad-option when the time is too short for the first pass
 */
export async function rehearseQemu(
  { definition, crew, kept }: Rehearsed,
  profiling: Profiling,
): Promise<Observation> {
  const { name } = definition;
  let meter: PassMeter | undefined;
  const outgoing = await openOutgoing(definition, crew, kept, async (departing) => {
    requireRunning(name, departing.found);
    requireHoldable(name, departing, profiling);
    await departing.migration.sparesGuest(); // it is not to get on
    meter = new PassMeter(departing.qmp);
  });
  const over = overOf(name, outgoing, profiling.signal);
  try {
    const begun = performance.now();
    const passes = await watch(outgoing, meter!, profiling, over.promise);
    if (passes.length === 0) throw await tooShort(outgoing, profiling.ms);
    const content = await Promise.race([
      outgoing.ingest.request('dropped', undefined),
      over.promise,
    ]);
    const byLength = ofAboutEqualLength(passes);
    return {
      method: 'rehearsal',
      ms: Math.round(performance.now() - begun),
      totalPages: totalPagesOf(outgoing),
      workingSet: summaries(passes),
      dirtyRate: rateOf(byLength[0]!),
      ...content,
      passes,
    };
  } finally {
    over.end();
    await undo(outgoing).catch((error) => log('warn', asGodwitError(error).message, name));
  }
}

function requireHoldable(name: string, { migration, qmp }: Departing, profiling: Profiling): void {
  if (migration.canHold) return;
  const why = `its QEMU ${qmp.version} may suspend it without being told to; 8.1 and later wait for a word`;
  requireNoRehearsal(name, profiling, why);
}

/** What ends a rehearsal before its time; `end` when nobody is to hear of it any more. */
function overOf(name: string, { stops, qmp, failure }: Outgoing, signal: AbortSignal) {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {}); // it may be over between two waits
  stops.onStop(() => reject(stoppedMeanwhile(name)));
  if (stops.stopped) reject(stoppedMeanwhile(name));
  qmp.onClose(reject);
  failure.promise.catch(reject);
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  return { promise, end: () => signal.removeEventListener('abort', onAbort) };
}

/** @param over rejects when there is nothing to watch any more. @returns what was dirtied in each pass */
async function watch(
  { migration, ingest }: Outgoing,
  meter: PassMeter,
  { ms, rehearsal, onProgress }: Profiling,
  over: Promise<never>,
): Promise<SeenWindow[]> {
  const cap = rehearsal?.bandwidth ?? Number.POSITIVE_INFINITY;
  const lengths = new Set(windowPlan(ms, SHORTEST_MS));
  const spent = new Map([...lengths].map((length) => [length, 0]));
  const passes: SeenWindow[] = [];
  const begun = performance.now();
  let timer: NodeJS.Timeout | undefined;
  const timeIsUp = new Promise<'over'>((resolve) => {
    timer = setTimeout(() => resolve('over'), ms);
  });
  try {
    await migration.limitBandwidth(Number.isFinite(cap) ? cap : 0);
    await ingest.request('drop', undefined);
    let length: number | undefined;
    for (;;) {
      const pass = await Promise.race([meter.next(migration), timeIsUp, over]);
      if (pass === 'over') return passes;
      const elapsedMs = performance.now() - begun;
      if (pass.dirtied !== undefined) {
        const { ms: windowMs, pages } = pass.dirtied;
        passes.push(pass.dirtied);
        if (length !== undefined) spent.set(length, spent.get(length)! + windowMs);
        onProgress({ elapsedMs, ms, windowMs, pages });
      }
      if (pass.number === 1) continue; // over all memory, as fast as it goes
      length = leastSpent(spent, ms - elapsedMs) ?? SHORTEST_MS;
      await migration.limitBandwidth(Math.min(cap, paceFor(pass.pending, length)));
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Bytes per second at which a pass takes so long: it sends a share as each of QEMU's windows begins. */
function paceFor(pages: number, ms: number): number {
  const windowsPerSecond = 1000 / SHORTEST_MS;
  const shares = Math.round(ms / SHORTEST_MS) + 1;
  return Math.max(STILL, Math.ceil((pages * STREAM_PAGE_BYTES) / shares) * windowsPerSecond);
}

/** Median and 90th percentile of passes of about the same length, the shortest first. */
export function summaries(passes: readonly SeenWindow[]): readonly WindowPages[] {
  return ofAboutEqualLength(passes).map(summary);
}

function ofAboutEqualLength(passes: readonly SeenWindow[]): SeenWindow[][] {
  const byDoublings = Map.groupBy(passes, ({ ms }) => Math.round(Math.log2(ms / SHORTEST_MS)));
  return [...byDoublings].sort(([a], [b]) => a - b).map(([, alike]) => alike);
}

async function tooShort(outgoing: Outgoing, ms: number): Promise<GodwitError> {
  const sent = (await outgoing.migration.progress())?.sent ?? 0;
  const share = sent / totalPagesOf(outgoing);
  const needed = share > 0 ? `, which takes about ${formatDuration(ms / Math.min(1, share))}` : '';
  const text = `${formatDuration(ms)} are too short for a rehearsal: nothing shows before the first pass over all memory is over${needed}`;
  return new GodwitError('bad-option', text);
}

function totalPagesOf({ prologue }: Outgoing): number {
  return new GuestLayout(regionsOf(prologue.blocks)).totalPages;
}

/** QEMU migrates no more, and is set as before. Without its monitor the end of its stream ends it. */
async function undo({ migration, ingest, qmp }: Outgoing): Promise<void> {
  try {
    await migration.cancel();
    await migration.restore();
  } finally {
    await ingest.stop();
    qmp.close();
  }
}
