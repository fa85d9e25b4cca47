import { GodwitError } from '../errors.ts';
import { cutoverLapse } from './cutover.ts';
import type { SuspensionCosts } from './estimate.ts';
import { holdAt, isHeld } from './hold.ts';
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
  /**
   * One pass over the pending set; resolves when everything sent is acknowledged. `held`: the guest
   * is not to be moved now, so that a hypervisor that makes its own passes must not end them.
   */
  send(round: number, held: boolean): Promise<RoundResult>;
  /** Nothing is sent until the next `send`: a hypervisor that makes its own passes rests, too. */
  rest(): Promise<void>;
  /**
   * While it rests: a sync that tells also what the guest has written since the last one. Undefined
   * where only another pass can tell.
   */
  look?(): Promise<Look>;
  /** Ends the running pass early; what is not sent stays pending, and `send` still resolves. */
  interrupt(): void;
  progress(): Progress;
}

export interface Look {
  /** Pages pending now, and how many of them the guest has written since the last sync or look. */
  readonly pages: number;
  readonly dirtied: number;
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

/** A consultation that took place: what the policy was shown, and its answer. */
export interface Consulted extends Consultation {
  readonly stats: PrecopyStats;
  readonly limits: PolicyLimits;
}

export type Consult = (stats: PrecopyStats, limits: PolicyLimits) => Promise<Consultation>;

/** A policy ready to be consulted; `close` frees what it holds. */
export interface OpenPolicy {
  readonly consult: Consult;
  close(): Promise<void>;
}

/** Monotonic milliseconds, a timer and the time of day; tests bring their own. */
export interface Clock {
  now(): number;
  /** Milliseconds since 1970. */
  wall(): number;
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
  readonly onConsultation: (consulted: Consulted) => void;
  readonly onRound: (report: RoundReport) => void;
  /** The operator's order does not stand any more, for that reason. */
  readonly onLapse: (why: string) => void;
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
/** Between two looks at the dirty log of a guest that is held: what a busy second may spoil. */
const LOOK_MS = 1000;
/** The same where a look costs a pass; whoever orders the cutover meanwhile has one first. */
const PASS_REST_MS = 10_000;
/** A held guest has a round at least so often: a drain rate is measured, not remembered. */
const MAX_REST_MS = 60_000;

/**
 * Sends the guest's memory in rounds while it runs, until the policy says to stop. The policy is
 * consulted before and after each round, several times within one, and at once when the operator
 * changes something. While it answers `hold`, nothing is sent. After `stop-and-copy` nothing is in
 * flight and the unsent pages are pending; after `abort`, a cancel or an error a pass may still be
 * running, and closing the engine ends it.
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
  #held = false;
  /** When a hold last kept the guest from being moved. */
  #heldAtMs: number | undefined;

  constructor(options: PrecopyOptions) {
    const { totalPages, startedMs, clock } = options;
    this.#o = options;
    this.#measurements = new Measurements(totalPages, startedMs, clock.now());
  }

  async run(): Promise<PrecopyResult> {
    for (let round = 1; ; round++) {
      const result =
        (await this.#beforeRound()) ??
        (await this.#round(round)) ??
        (await this.#consult('after-round'));
      if (result !== undefined) {
        if (this.#unreported !== undefined) this.#o.onRound(this.#unreported);
        return result;
      }
      await this.#sync();
    }
  }

  /** Resolves when a round is to begin; a result when none is to. */
  async #beforeRound(): Promise<PrecopyResult | undefined> {
    const { engine, clock } = this.#o;
    const sinceMs = clock.now();
    for (;;) {
      const answer = await this.#ask('before-round');
      if (answer.verdict.action !== 'hold') return resultOf(answer);
      const ordered = await this.#rest();
      if (engine.look === undefined) return undefined;
      if (!ordered && clock.now() - sinceMs >= MAX_REST_MS) return undefined;
      const { pages, dirtied } = await this.#orCancelled(engine.look());
      this.#measurements.looked(pages, dirtied, clock.now());
    }
  }

  /**
   * Until the next look is due, or true: something else than holding is called for, which the look
   * has to confirm. Nothing is begun without a connection, except to give up.
   */
  async #rest(): Promise<boolean> {
    const { engine, clock } = this.#o;
    await this.#orCancelled(engine.rest());
    const untilMs = clock.now() + (engine.look === undefined ? PASS_REST_MS : LOOK_MS);
    const halted = () => engine.progress().halted === true;
    while (clock.now() < untilMs || halted()) {
      await this.#orCancelled(this.#wakeAfter(CONSULT_MS));
      const { action } = (await this.#ask('at-rest')).verdict;
      if (action === 'abort' || (action !== 'hold' && !halted())) return true;
    }
    return false;
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
    const sending = engine.send(round, this.#held).finally(() => {
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
    return resultOf(await this.#ask(when));
  }

  async #ask(when: PrecopyStats['when']): Promise<Asked> {
    const { engine, clock, steering, consult, onConsultation, onLapse } = this.#o;
    if (when === 'in-round') this.#measurements.sample(engine.progress(), clock.now());
    const { limits, changes } = steering;
    const lapse = cutoverLapse(this.#stats(when), limits);
    if (lapse !== undefined) {
      steering.lapse();
      onLapse(lapse);
    }
    const stats = this.#stats(when);
    this.#held = isHeld(stats);
    this.#changesSeen = changes;
    const consultation = await this.#orCancelled(consult(stats, limits));
    onConsultation({ stats, limits, ...consultation });
    return { verdict: consultation.verdict, stats };
  }

  #stats(when: PrecopyStats['when']): PrecopyStats {
    const { engine, clock, costs, steering } = this.#o;
    const { cutoverRequested, cutoverForced, limits } = steering;
    const now = clock.now();
    const progress = engine.progress();
    const measured = this.#measurements.stats(when, progress, costs(), cutoverRequested, now);
    const hold = limits.hold === undefined ? undefined : holdAt(limits.hold, clock.wall());
    if (hold !== undefined && hold.opensMs !== 0) this.#heldAtMs = now;
    const sinceHeldMs = this.#heldAtMs === undefined ? undefined : now - this.#heldAtMs;
    return Object.freeze({ ...measured, cutoverForced, hold, sinceHeldMs });
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

/** An answer, and what it was reached on. */
type Asked = Pick<PrecopyResult, 'verdict' | 'stats'>;

/** What ends the loop; undefined for what does not. */
function resultOf({ verdict, stats }: Asked): PrecopyResult | undefined {
  const { action } = verdict;
  if (action === 'continue' || action === 'hold') return undefined;
  return { outcome: action, verdict, stats };
}
