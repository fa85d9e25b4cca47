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

export interface PrecopyStats {
  /** Where the loop stands: dirtyCount is known only before a round. */
  readonly when: 'before-round' | 'in-round' | 'after-round';
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
  /** Pages per second that became dirty between the last two syncs, or UNKNOWN. */
  readonly dirtyRate: number;
  /** Undefined until a drain rate and a dirty rate have been measured: during the first round. */
  readonly estimate: Estimate | undefined;
  /** The last rounds, oldest first, at most HISTORY_ROUNDS. */
  readonly history: readonly RoundStats[];
  /** The operator asked for the cutover now. */
  readonly cutoverRequested: boolean;
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
}

export interface Verdict {
  readonly action: 'continue' | 'stop-and-copy' | 'abort';
  /** One sentence for the log, the ledger and the operator. */
  readonly reason: string;
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
