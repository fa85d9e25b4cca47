import { DrainMeter } from './drain-meter.ts';
import { estimateSuspension, type SuspensionCosts } from './estimate.ts';
import {
  type Estimate,
  HISTORY_ROUNDS,
  type PrecopyStats,
  type RoundStats,
  UNKNOWN,
} from './stats.ts';
import { suspensionRate } from './suspension-rate.ts';

/** Counters of the engine since the migration began, and what is left of the running round. */
export interface Progress {
  /** Pages sent, zero pages included. */
  readonly pagesWritten: number;
  readonly wireBytes: number;
  /** Bytes of guest pages that the receiver has acknowledged, zero pages left out. */
  readonly drainedBytes: number;
  /** As in `Way`; left out: not measured. */
  readonly burstRate?: number;
  /** Pages of the running round not sent yet; 0 between rounds. */
  readonly pagesRemaining: number;
  /** Nothing can be sent at the moment: the time says nothing about the link's rate. */
  readonly halted?: boolean;
  /** Less is sent than could be, on purpose: likewise. */
  readonly slowed?: boolean;
}

/** A finished pass, for the ledger. */
export interface RoundReport {
  readonly round: number;
  /** Pages in the dirty set that the round set out to send. */
  readonly dirtyPages: number;
  readonly sentPages: number;
  /** Pages found dirty by the sync after it; UNKNOWN when none followed. */
  readonly dirtiedPages: number;
  readonly cutShort: boolean;
  readonly ms: number;
  readonly wireBytes: number;
  readonly drainedBytes: number;
}

interface RunningRound {
  readonly round: number;
  readonly startedMs: number;
  readonly progress: Progress;
}

/**
 * Turns what the loop sees (progress, syncs, the time) into the statistics that a policy is shown.
 * Every `now` is of one monotonic clock, ms.
 */
export class Measurements {
  readonly #totalPages: number;
  readonly #startedMs: number;
  readonly #drain = new DrainMeter();
  #iteration = 0;
  #dirtyCount: number;
  #dirtyRate = UNKNOWN;
  #lastSyncMs: number;
  #history: readonly RoundStats[] = Object.freeze([]);
  #running: RunningRound | undefined;
  #finished: RoundReport | undefined;
  /** At the end of the last round. */
  #progress: Progress = { pagesWritten: 0, wireBytes: 0, drainedBytes: 0, pagesRemaining: 0 };

  /**
   * @param startedMs when the migration began, for `elapsedMs`
   * @param now the dirty log is clean: every page is still to be sent
   */
  constructor(totalPages: number, startedMs: number, now: number) {
    this.#totalPages = totalPages;
    this.#startedMs = startedMs;
    this.#dirtyCount = totalPages;
    this.#lastSyncMs = now;
  }

  roundBegins(round: number, progress: Progress, now: number): void {
    this.#running = { round, startedMs: now, progress };
    this.#drain.begin({ ...progress, atMs: now });
  }

  sample(progress: Progress, now: number): void {
    const point = { ...progress, atMs: now };
    if (progress.halted || progress.slowed) this.#drain.begin(point);
    else this.#drain.sample(point);
  }

  /** The round is over; its report is complete unless a sync follows. */
  roundEnds(progress: Progress, cutShort: boolean, now: number): RoundReport {
    const { round, startedMs, progress: before } = this.#running!;
    if (progress.slowed) this.#drain.begin({ ...progress, atMs: now });
    this.#drain.end({ ...progress, atMs: now });
    this.#running = undefined;
    this.#progress = progress;
    if (!cutShort) this.#iteration = round;
    this.#finished = Object.freeze({
      round,
      dirtyPages: this.#dirtyCount,
      sentPages: progress.pagesWritten - before.pagesWritten,
      dirtiedPages: UNKNOWN,
      cutShort,
      ms: now - startedMs,
      wireBytes: progress.wireBytes - before.wireBytes,
      drainedBytes: progress.drainedBytes - before.drainedBytes,
    });
    return this.#finished;
  }

  /** A sync after a round found so many pages pending. */
  synced(pages: number, costs: SuspensionCosts, now: number): RoundReport {
    const report = Object.freeze({ ...this.#finished!, dirtiedPages: pages });
    this.#dirtyRate = (pages * 1000) / Math.max(1, now - this.#lastSyncMs);
    this.#lastSyncMs = now;
    this.#dirtyCount = pages;
    const { round, dirtyPages, ms } = report;
    const estimateMs = this.#estimate(pages, costs, this.#progress)?.expected ?? UNKNOWN;
    const entry = Object.freeze({ round, dirtyPages, dirtiedPages: pages, ms, estimateMs });
    this.#history = Object.freeze([...this.#history, entry].slice(-HISTORY_ROUNDS));
    return report;
  }

  /**
   * A look at the dirty log while nothing is sent.
   * @param pages pending now
   * @param dirtied pages that the guest has written since the last sync or look
   */
  looked(pages: number, dirtied: number, now: number): void {
    this.#dirtyRate = (dirtied * 1000) / Math.max(1, now - this.#lastSyncMs);
    this.#lastSyncMs = now;
    this.#dirtyCount = pages;
  }

  stats(
    when: PrecopyStats['when'],
    progress: Progress,
    costs: SuspensionCosts,
    cutoverRequested: boolean,
    now: number,
  ): PrecopyStats {
    const atRest = when === 'at-rest';
    const unsent = atRest ? this.#dirtyCount : progress.pagesRemaining;
    const known = atRest || when === 'before-round' ? this.#dirtyCount : UNKNOWN;
    const pending = when === 'before-round' ? this.#dirtyCount : this.#pending(unsent, now);
    return Object.freeze({
      when,
      iteration: this.#iteration,
      totalPages: this.#totalPages,
      totalWritten: progress.pagesWritten,
      dirtyCount: known,
      elapsedMs: now - this.#startedMs,
      wireBytes: progress.wireBytes,
      drainRate: this.#drain.drain.rate,
      suspendRate: this.#suspendRate(costs, progress),
      dirtyRate: this.#dirtyRate,
      estimate: this.#estimate(pending, costs, progress),
      history: this.#history,
      cutoverRequested,
    });
  }

  /** Between syncs: what is not sent yet, and what the guest has probably dirtied since the last. */
  #pending(unsent: number, now: number): number {
    const dirtied = (this.#dirtyRate * (now - this.#lastSyncMs)) / 1000;
    return Math.min(this.#totalPages, unsent + Math.ceil(dirtied));
  }

  /** Before the first sync nobody knows what the guest dirties: no forecast is better than a lie. */
  #estimate(pages: number, costs: SuspensionCosts, progress: Progress): Estimate | undefined {
    const { rate, spread } = this.#drain.drain;
    if (rate === 0 || this.#dirtyRate === UNKNOWN) return undefined;
    const drain = { rate: this.#suspendRate(costs, progress), spread };
    return estimateSuspension(pages, this.#dirtyRate, drain, costs);
  }

  #suspendRate({ caps = {} }: SuspensionCosts, progress: Progress): number {
    const { drainedBytes, wireBytes, burstRate = 0 } = progress;
    const perWireByte = wireBytes > 0 ? drainedBytes / wireBytes : 0;
    return suspensionRate({ drainRate: this.#drain.drain.rate, burstRate, perWireByte }, caps);
  }
}
