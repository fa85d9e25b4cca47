/**
 * What a policy is asked with and what it answers: plain frozen values, so that a recorded
 * consultation can be replayed under another policy. Times are milliseconds, rates per second.
 */

/** Xen's −1: the dirty set will be known only after the next sync. */
export const UNKNOWN = -1;

/** Suspension forecast in milliseconds: what it would be if the guest were suspended now. */
export interface Estimate {
  readonly low: number;
  readonly expected: number;
  readonly high: number;
  /** The part of `expected` that does not depend on the remaining pages. */
  readonly fixed: number;
  /** The part of `expected` that follows when the guest is given away: all before has to end by the deadline. */
  readonly after: number;
  /** What the deadline keeps free of a limit that is at least twice as long; of a shorter one it is half. */
  readonly reserve: number;
}

/** One finished pass, as later consultations remember it. */
export interface RoundStats {
  readonly round: number;
  /** Pages in the dirty set that the round set out to send. */
  readonly dirtyPages: number;
  /** Pages found dirty by the sync after it. */
  readonly dirtiedPages: number;
  readonly ms: number;
  /** Forecast at the sync after it, expected value; UNKNOWN when there was none. */
  readonly estimateMs: number;
}

/** How the operator's hold stands. */
export interface HoldStats {
  /** Until the guest may be moved: 0 when it may now, UNKNOWN when only an order ends the hold. */
  readonly opensMs: number;
  /** Until it may not any more; UNKNOWN when it may for good, or may not yet. */
  readonly closesMs: number;
}

export interface PrecopyStats {
  /**
   * Where the loop stands. `at-rest`: nothing is sent while the guest is held, and dirtyCount is
   * that of the last look at the dirty log.
   */
  readonly when: 'before-round' | 'in-round' | 'after-round' | 'at-rest';
  /** Rounds completed; 0 is the state before anything is sent. */
  readonly iteration: number;
  readonly totalPages: number;
  /** Pages sent since the migration began, zero pages included. */
  readonly totalWritten: number;
  /** Pages that a suspension now would have to send, or UNKNOWN. */
  readonly dirtyCount: number;
  /** Since the migration began. */
  readonly elapsedMs: number;
  readonly wireBytes: number;
  /**
   * Guest bytes per second that the receiver acknowledges, smoothed; 0 until measured. Zero pages
   * are left out: they cost nothing, and a dirty page is rarely one.
   */
  readonly drainRate: number;
  /**
   * Guest bytes per second at which the pages of a suspension are expected to go: the drain rate, but
   * for caps (`suspension-rate.ts`); ledgers of before there were two caps have none.
   */
  readonly suspendRate?: number | undefined;
  /** Pages per second that became dirty between the last two syncs, or UNKNOWN. */
  readonly dirtyRate: number;
  /** Undefined until a drain rate and a dirty rate have been measured: during the first round. */
  readonly estimate: Estimate | undefined;
  /** The last rounds, oldest first, at most HISTORY_ROUNDS. */
  readonly history: readonly RoundStats[];
  /** The operator asked for the cutover now. */
  readonly cutoverRequested: boolean;
  /** Whatever the forecast. */
  readonly cutoverForced?: boolean | undefined;
  /** Undefined when there is none; ledgers of before holds have none. */
  readonly hold?: HoldStats | undefined;
  /** Since a hold last kept the guest from being moved; undefined: none has. */
  readonly sinceHeldMs?: number | undefined;
}

/** Guest bytes per second at which the pages of a suspension are expected to go; 0 until measured. */
export function lastRate({ suspendRate, drainRate }: PrecopyStats): number {
  return suspendRate ?? drainRate;
}

/** Rounds that a policy can look back on. */
export const HISTORY_ROUNDS = 64;

/** What the operator wants; every field may change in flight. */
export interface PolicyLimits {
  /** Longest suspension, ms; undefined: none asked for (only the xen policy may do without). */
  readonly maxSuspendMs: number | undefined;
  /** Longest move, ms; undefined: none. */
  readonly timeoutMs: number | undefined;
  /** What matters more when both cannot be had. */
  readonly prefer: 'workload' | 'completion';
  /** At or below this forecast the guest may be suspended, ms. */
  readonly pauseBelowMs: number | undefined;
  /** Above this forecast the guest is never suspended, ms. */
  readonly abortAboveMs: number | undefined;
  /** xen: rounds before it stops anyway. */
  readonly maxIters: number;
  /** xen: stop below this many dirty pages. */
  readonly minRemaining: number;
  /** Until when the guest is not to be moved by itself (see `hold.ts`); undefined: it may be. */
  readonly hold?: string | undefined;
}

export interface Verdict {
  /**
   * `hold`: the guest is not to be moved now, and a round would gain nothing: nothing is sent until
   * the next look at the dirty log. Within a round it goes on, as with `continue`.
   */
  readonly action: 'continue' | 'hold' | 'stop-and-copy' | 'abort';
  /** One sentence for the log, the ledger and the operator. */
  readonly reason: string;
  /** With an abort for the forecast's sake: the suspension limit that would have been enough, ms. */
  readonly enoughMs?: number;
}

/** A verdict that ends precopy, either way. */
export function ends({ action }: Verdict): boolean {
  return action === 'stop-and-copy' || action === 'abort';
}

/**
 * A verdict that ends precopy where it was asked for. Between two looks at a guest that rests nothing
 * is decided: what is answered there, the look that follows has to confirm.
 */
export function endsAt(verdict: Verdict, when: PrecopyStats['when']): boolean {
  return when !== 'at-rest' && ends(verdict);
}

/** A policy is a pure function of what it is shown. */
export type Policy = (stats: PrecopyStats, limits: PolicyLimits) => Verdict;

/**
 * The suspension limit that is enforced on a stop-and-copy, ms; undefined: none. With
 * `prefer completion` finishing matters more than the promise, so only abort-above binds.
 */
export function enforcedSuspendMs(limits: PolicyLimits): number | undefined {
  return limits.prefer === 'completion' ? limits.abortAboveMs : limits.maxSuspendMs;
}
