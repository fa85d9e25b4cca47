import { setImmediate as turn } from 'node:timers/promises';
import type { SuspensionCosts } from '../../lib/precopy/estimate.ts';
import { type LimitsChange, type PolicyName, policyLimits } from '../../lib/precopy/limits.ts';
import {
  type Clock,
  type Consult,
  type Consulted,
  type Look,
  type PrecopyResult,
  precopy,
  type RoundEngine,
  type RoundResult,
} from '../../lib/precopy/loop.ts';
import type { Progress, RoundReport } from '../../lib/precopy/measurements.ts';
import { openPolicy } from '../../lib/precopy/policy/open.ts';
import { Steering } from '../../lib/precopy/steering.ts';

/** Time that passes only when nothing else can happen. */
export class FakeClock implements Clock {
  #now = 0;
  /** What the clock on the wall says at the beginning, ms since 1970. */
  wallAtBegin = 0;
  #timers: { atMs: number; callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.wallAtBegin + this.#now;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { atMs: this.#now + ms, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  get timers(): number {
    return this.#timers.length;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Lets time pass until the work is done. */
  async run<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const settled = work.finally(() => {
      done = true;
    });
    settled.catch(() => {});
    for (;;) {
      await turn();
      if (done) return settled;
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) throw new Error('nothing left to happen, and the work is not done');
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.atMs;
      next.callback();
    }
  }
}

/** Different pages that a guest writes within a time, ms. */
export type Guest = (fromMs: number, toMs: number) => number;

/** Writes spread evenly over a working set: each page is dirty once, however often written. */
export function writes(perSecond: number, workingSet: number): Guest {
  return (fromMs, toMs) => {
    if (workingSet === 0) return 0;
    const written = (perSecond * (toMs - fromMs)) / 1000;
    return Math.round(workingSet * (1 - Math.exp(-written / workingSet)));
  };
}

/** One workload after the other, each for so many ms; begins again when `repeat` is set. */
export function phases(list: readonly (readonly [number, Guest])[], repeat = false): Guest {
  const period = list.reduce((sum, [ms]) => sum + ms, 0);
  return (fromMs, toMs) => {
    let pages = 0;
    for (let at = fromMs; at < toMs; ) {
      let begins = repeat ? Math.floor(at / period) * period : 0;
      let guest = list.at(-1)![1];
      let ends = Number.POSITIVE_INFINITY;
      for (const [ms, candidate] of list) {
        if (at >= begins + ms) {
          begins += ms;
          continue;
        }
        guest = candidate;
        ends = begins + ms;
        break;
      }
      const until = Math.min(toMs, ends);
      pages += guest(at, until);
      at = until;
    }
    return pages;
  };
}

export interface Scenario {
  readonly guest: Guest;
  readonly totalPages?: number;
  /** Bytes per second. */
  readonly drainRate?: number;
  readonly policy?: PolicyName;
  readonly limits?: LimitsChange;
  /** What is different about a suspension's costs at a time, ms. */
  readonly costs?: (atMs: number) => Partial<SuspensionCosts>;
  /** What the operator does, and when. */
  readonly events?: readonly (readonly [number, (hand: Hand) => void])[];
  readonly consult?: Consult;
  /** What the clock on the wall says at the beginning, ms since 1970. */
  readonly wall?: number;
  /** Who else is told of what happens, as it happens. */
  readonly witness?: Witness;
}

export interface Witness {
  begins(steering: Steering): void;
  consulted(consulted: Consulted): void;
  round(report: RoundReport): void;
}

export interface Hand {
  readonly steering: Steering;
  readonly engine: SimulatedEngine;
  cancel(): void;
}

export interface Run {
  readonly outcome: PrecopyResult['outcome'];
  readonly reason: string;
  readonly result: PrecopyResult;
  readonly atMs: number;
  readonly rounds: readonly RoundReport[];
  /** Why orders did not stand any more. */
  readonly lapses: readonly string[];
  readonly consultations: readonly Consulted[];
  /** What the suspension would really take, ms. */
  readonly suspensionMs: number;
  readonly engine: SimulatedEngine;
  readonly clock: FakeClock;
}

const COSTS: SuspensionCosts = {
  suspendMs: 2,
  journalMs: 0,
  digestMs: 1,
  roundTripMs: 0.2,
  deviceStateBytes: 64 * 1024,
  loadMs: 1,
  verifyMs: 0,
  resumeMs: 3,
  afterMs: 3.1,
  reserveMs: 25,
  leastMs: 0,
};
export const MIB = 256; // pages

/** Counts instead of pages: a link of constant rate, and a guest that dirties by formula. */
export class SimulatedEngine implements RoundEngine {
  readonly #clock: FakeClock;
  readonly #guest: Guest;
  readonly #total: number;
  readonly #pagesPerMs: number;
  #pending: number;
  #lastSyncMs: number;
  /** The dirty log was clean then, but for what the last pass has left unsent. */
  #cleanMs: number;
  #unsent: number;
  #written = 0;
  #running: { startedMs: number; pages: number; stop: (sent: number) => void } | undefined;
  interrupts = 0;
  looks = 0;
  #cut = false;

  constructor(clock: FakeClock, guest: Guest, totalPages: number, drainRate: number) {
    this.#clock = clock;
    this.#guest = guest;
    this.#total = totalPages;
    this.#pagesPerMs = drainRate / 4096 / 1000;
    this.#pending = totalPages;
    this.#lastSyncMs = clock.now();
    this.#cleanMs = clock.now();
    this.#unsent = totalPages;
  }

  get idle(): boolean {
    return this.#running === undefined;
  }

  /** Pages that a suspension now would have to send. */
  get pending(): number {
    const dirtied = this.#guest(this.#cleanMs, this.#clock.now());
    return Math.min(this.#total, this.#unsent + dirtied);
  }

  async sync(): Promise<number> {
    await this.#clock.sleep(0.5);
    this.#pending = this.pending;
    this.#lastSyncMs = this.#clock.now();
    return this.#pending;
  }

  async rest(): Promise<void> {}

  async look(): Promise<Look> {
    this.looks++;
    const since = this.#lastSyncMs;
    const pages = await this.sync();
    return { pages, dirtied: this.#guest(since, this.#lastSyncMs) };
  }

  async send(): Promise<RoundResult> {
    const pages = this.#pending;
    const startedMs = this.#clock.now();
    this.#cleanMs = this.#lastSyncMs;
    this.#unsent = pages;
    const sent = await new Promise<number>((resolve) => {
      const callOff = this.#clock.after(pages / this.#pagesPerMs, () => resolve(pages));
      const stop = (count: number) => {
        callOff();
        resolve(count);
      };
      this.#running = { startedMs, pages, stop };
    });
    await this.#clock.sleep(0.2); // the last acknowledgement
    this.#running = undefined;
    this.#written += sent;
    this.#unsent = pages - sent;
    return { cutShort: sent < pages };
  }

  /** The connection is lost, or back. */
  cut(lost: boolean): void {
    this.#cut = lost;
  }

  interrupt(): void {
    this.interrupts++;
    this.#running?.stop(this.#sent());
  }

  progress(): Progress {
    const sent = this.#sent();
    const written = this.#written + sent;
    return {
      pagesWritten: written,
      wireBytes: written * 4096,
      drainedBytes: written * 4096,
      halted: this.#cut,
      pagesRemaining: this.#running === undefined ? 0 : this.#running.pages - sent,
    };
  }

  #sent(): number {
    if (this.#running === undefined) return 0;
    const ms = this.#clock.now() - this.#running.startedMs;
    return Math.min(this.#running.pages, Math.floor(ms * this.#pagesPerMs));
  }
}

/** Runs a whole precopy in simulated time. */
export async function migrate(scenario: Scenario): Promise<Run> {
  const { totalPages = 512 * MIB, drainRate = 400e6, policy = 'contract' } = scenario;
  const clock = new FakeClock();
  clock.wallAtBegin = scenario.wall ?? 0;
  const engine = new SimulatedEngine(clock, scenario.guest, totalPages, drainRate);
  const steering = new Steering(policy, policyLimits(policy, scenario.limits ?? {}));
  const cancel = new AbortController();
  const costs = () => ({ ...COSTS, ...scenario.costs?.(clock.now()) });
  const rounds: RoundReport[] = [];
  const lapses: string[] = [];
  const consultations: Consulted[] = [];
  for (const [ms, act] of scenario.events ?? []) {
    clock.after(ms, () => act({ steering, engine, cancel: () => cancel.abort() }));
  }
  scenario.witness?.begins(steering);
  const result = await clock.run(
    precopy({
      engine,
      totalPages,
      consult: scenario.consult ?? (await openPolicy(policy)).consult,
      steering,
      clock,
      startedMs: 0,
      costs,
      cancel: cancel.signal,
      onConsultation: (consulted) => {
        consultations.push(consulted);
        scenario.witness?.consulted(consulted);
      },
      onRound: (report) => {
        rounds.push(report);
        scenario.witness?.round(report);
      },
      onLapse: (why) => lapses.push(why),
    }),
  );
  const atMs = clock.now();
  await clock.run(clock.sleep(costs().suspendMs));
  const fixed = result.stats.estimate?.fixed ?? 0;
  const suspensionMs = ((engine.pending * 4096) / drainRate) * 1000 + fixed;
  const { outcome, verdict } = result;
  const { reason } = verdict;
  return {
    ...{
      outcome,
      reason,
      result,
      atMs,
      rounds,
      lapses,
      consultations,
      suspensionMs,
      engine,
      clock,
    },
  };
}

/** What happened at each sync and in the end, one line each. */
export function transcript({ consultations, result, atMs }: Run): string {
  const lines = consultations
    .filter(({ stats }) => stats.when === 'before-round')
    .map(({ stats, verdict }) => {
      const at = `${(stats.elapsedMs / 1000).toFixed(1)} s`;
      return `${at} round ${stats.iteration} done, ${stats.dirtyCount} dirty: ${verdict.action}: ${verdict.reason}`;
    });
  if (result.stats.when !== 'before-round') {
    const at = `${(atMs / 1000).toFixed(1)} s`;
    lines.push(`${at} ${result.stats.when}: ${result.verdict.action}: ${result.verdict.reason}`);
  }
  return `\n${lines.join('\n')}\n`;
}
