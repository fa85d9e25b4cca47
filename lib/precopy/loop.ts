import { GodwitError } from '../errors.ts';
import type { SuspensionCosts } from './estimate.ts';
import { Measurements, type Progress, type RoundReport } from './measurements.ts';
import type { PolicyLimits, PrecopyStats, Verdict } from './stats.ts';
import type { Steering } from './steering.ts';

/**
 * What the loop needs of whoever moves the pages: workers that read memory, or a hypervisor that
 * pushes its own passes. The first round sends every page; the dirty log runs since before it.
 */
export interface RoundEngine {
  /**
   * Harvests the dirty log into the pending set; resolves to the pages pending then. A hypervisor
   * that makes its own passes answers at the boundary of the next one.
   */
  sync(): Promise<number>;
  /** One pass over the pending set; resolves when everything sent is acknowledged. */
  send(round: number): Promise<RoundResult>;
  /** Ends the running pass early; what is not sent stays pending, and `send` still resolves. */
  interrupt(): void;
  progress(): Progress;
}

export interface RoundResult {
  /** The pass ended before every page was sent. */
  readonly cutShort: boolean;
}

export interface Consultation {
  readonly verdict: Verdict;
  /** Why the verdict is not the custom policy's own. */
  readonly problem?: string;
}

export type Consult = (stats: PrecopyStats, limits: PolicyLimits) => Promise<Consultation>;

/** A policy ready to be consulted; `close` frees what it holds. */
export interface OpenPolicy {
  readonly consult: Consult;
  close(): Promise<void>;
}

/** Monotonic milliseconds and a timer; tests bring their own. */
export interface Clock {
  now(): number;
  /** Calls back once after `ms`; the returned function calls it off. */
  after(ms: number, callback: () => void): () => void;
}

export interface PrecopyOptions {
  readonly engine: RoundEngine;
  readonly totalPages: number;
  readonly consult: Consult;
  readonly steering: Steering;
  readonly clock: Clock;
  /** When the migration began, on the same clock; elapsed time counts from there. */
  readonly startedMs: number;
  /** What a suspension costs besides pages, as far as it is known by now. */
  readonly costs: () => SuspensionCosts;
  readonly cancel: AbortSignal;
  readonly onConsultation: (consultation: Consultation & { readonly stats: PrecopyStats }) => void;
  readonly onRound: (report: RoundReport) => void;
}

export interface PrecopyResult {
  readonly outcome: 'stop-and-copy' | 'abort';
  readonly verdict: Verdict;
  /** What the verdict was reached on. */
  readonly stats: PrecopyStats;
}

/** Time between consultations within a round: 250 ms are promised, timers and workers are late. */
const CONSULT_MS = 200;
/** A guest with next to nothing dirty would be synced thousands of times a second. */
const MIN_ROUND_MS = 20;

/**
 * Sends the guest's memory in rounds while it runs, until the policy says to stop. The policy is
 * consulted before and after each round, several times within one, and at once when the operator
 * changes something. After `stop-and-copy` nothing is in flight and the unsent pages are pending;
 * after `abort`, a cancel or an error a pass may still be running, and closing the engine ends it.
 *
 * @throws GodwitError cancelled, and whatever the engine rejects with
 */
export async function precopy(options: PrecopyOptions): Promise<PrecopyResult> {
  return new PrecopyLoop(options).run();
}

class PrecopyLoop {
  readonly #o: PrecopyOptions;
  readonly #measurements: Measurements;
  /** The last finished round, until a sync completes its report. */
  #unreported: RoundReport | undefined;
  #changesSeen = 0;

  constructor(options: PrecopyOptions) {
    const { totalPages, startedMs, clock } = options;
    this.#o = options;
    this.#measurements = new Measurements(totalPages, startedMs, clock.now());
  }

  async run(): Promise<PrecopyResult> {
    for (let round = 1; ; round++) {
      const result =
        (await this.#consult('before-round')) ??
        (await this.#round(round)) ??
        (await this.#consult('after-round'));
      if (result !== undefined) {
        if (this.#unreported !== undefined) this.#o.onRound(this.#unreported);
        return result;
      }
      await this.#sync();
    }
  }

  async #sync(): Promise<void> {
    const { engine, clock, costs, onRound } = this.#o;
    const restMs = MIN_ROUND_MS - this.#unreported!.ms;
    if (restMs > 0) await this.#orCancelled(this.#wakeAfter(restMs));
    const pages = await this.#orCancelled(engine.sync());
    onRound(this.#measurements.synced(pages, costs(), clock.now()));
    this.#unreported = undefined;
  }

  /** One pass, with consultations while it runs; a result when one of them ended it. */
  async #round(round: number): Promise<PrecopyResult | undefined> {
    const { engine, clock } = this.#o;
    this.#measurements.roundBegins(round, engine.progress(), clock.now());
    let running = true;
    const sending = engine.send(round).finally(() => {
      running = false;
    });
    sending.catch(() => {}); // thrown where it is awaited below; nobody awaits it after an abort
    try {
      for (;;) {
        await this.#orCancelled(this.#wakeAfter(CONSULT_MS, sending));
        if (!running) break;
        const result = await this.#consult('in-round');
        if (result === undefined) continue;
        engine.interrupt();
        if (result.outcome === 'stop-and-copy') await this.#ended(sending);
        return result;
      }
      await this.#ended(sending);
      return undefined;
    } catch (error) {
      if (running) engine.interrupt();
      throw error;
    }
  }

  async #ended(sending: Promise<RoundResult>): Promise<void> {
    const { engine, clock } = this.#o;
    const { cutShort } = await this.#orCancelled(sending);
    this.#unreported = this.#measurements.roundEnds(engine.progress(), cutShort, clock.now());
  }

  async #consult(when: PrecopyStats['when']): Promise<PrecopyResult | undefined> {
    const { engine, clock, costs, steering, consult, onConsultation } = this.#o;
    const progress = engine.progress();
    const now = clock.now();
    if (when === 'in-round') this.#measurements.sample(progress, now);
    const { cutoverRequested, limits, changes } = steering;
    const stats = this.#measurements.stats(when, progress, costs(), cutoverRequested, now);
    this.#changesSeen = changes;
    const consultation = await this.#orCancelled(consult(stats, limits));
    onConsultation({ stats, ...consultation });
    const { verdict } = consultation;
    return verdict.action === 'continue' ? undefined : { outcome: verdict.action, verdict, stats };
  }

  /** Resolves after `ms`, or earlier when `work` settles or the operator changes something. */
  #wakeAfter(ms: number, work?: Promise<unknown>): Promise<void> {
    const { clock, steering } = this.#o;
    return new Promise((resolve) => {
      const wake = () => {
        callOff();
        unsubscribe();
        resolve();
      };
      const callOff = clock.after(ms, wake);
      const unsubscribe = steering.onChange(wake);
      work?.then(wake, wake);
      if (steering.changes !== this.#changesSeen) wake();
    });
  }

  /** The work's result, unless the migration is cancelled first. */
  #orCancelled<T>(work: Promise<T>): Promise<T> {
    const { cancel } = this.#o;
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(new GodwitError('cancelled', 'the migration was cancelled'));
      cancel.addEventListener('abort', onAbort);
      work.then(resolve, reject).finally(() => cancel.removeEventListener('abort', onAbort));
      if (cancel.aborted) onAbort();
    });
  }
}
