import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import {
  HISTORY_ROUNDS,
  type PolicyLimits,
  type PrecopyStats,
  type RoundStats,
  UNKNOWN,
} from '../stats.ts';

/** A forecast must fall by this much to count as better; KubeVirt VEP 248 `stallMargin`, 4 %. */
const BETTER = 0.96;
/** Within this of the best seen, a forecast is at a local minimum. */
const NEAR_BEST = 1.04;
/** Fewer rounds than this prove nothing, however long they took. */
const MIN_STALL_ROUNDS = 3;
const MIN_PATIENCE_MS = 15_000;
const MAX_PATIENCE_MS = 60_000;

/** How the forecast moved from sync to sync, as far as the history and no hold reach. */
export interface Trend {
  /** Lowest and highest forecast seen, ms; Infinity and 0 when there was none. */
  readonly bestMs: number;
  readonly worstMs: number;
  /** Time and rounds since the forecast last became clearly better. */
  readonly sinceBetterMs: number;
  readonly roundsSinceBetter: number;
  /** The same time at most, where the history does not reach back to that. */
  readonly atMostMs: number;
}

export function trendOf(stats: PrecopyStats): Trend {
  let bestMs = Number.POSITIVE_INFINITY;
  let worstMs = 0;
  let markMs = bestMs;
  let sinceBetterMs = 0;
  let roundsSinceBetter = 0;
  for (const { estimateMs, ms } of sinceHeld(stats)) {
    if (estimateMs === UNKNOWN) continue;
    sinceBetterMs += ms;
    roundsSinceBetter++;
    bestMs = Math.min(bestMs, estimateMs);
    worstMs = Math.max(worstMs, estimateMs);
    if (estimateMs >= markMs * BETTER) continue;
    markMs = estimateMs;
    sinceBetterMs = 0;
    roundsSinceBetter = 0;
  }
  const atMostMs = stats.sinceHeldMs ?? stats.elapsedMs;
  return { bestMs, worstMs, sinceBetterMs, roundsSinceBetter, atMostMs };
}

/** A guest that was held was not waited for: the rounds that ended since. */
function sinceHeld({ history, sinceHeldMs }: PrecopyStats): readonly RoundStats[] {
  if (sinceHeldMs === undefined) return history;
  let first = history.length;
  for (let leftMs = sinceHeldMs; first > 0; first--) {
    leftMs -= history[first - 1]!.ms;
    if (leftMs < 0) break;
  }
  return history.slice(first);
}

/**
 * True when nothing became better for so long. Rounds may be so short that the history never reaches
 * that far back: one that is full of them counts as long enough once the move has gone on for it.
 */
export function stalledFor(trend: Trend, ms: number): boolean {
  const { sinceBetterMs, roundsSinceBetter, atMostMs } = trend;
  if (roundsSinceBetter < MIN_STALL_ROUNDS) return false;
  const isFull = roundsSinceBetter >= HISTORY_ROUNDS - 1;
  return sinceBetterMs >= ms || (isFull && atMostMs >= ms);
}

export function atLocalMinimum(trend: Trend, forecastMs: number): boolean {
  return forecastMs <= trend.bestMs * NEAR_BEST;
}

/**
 * What counts as low enough once the forecast has stalled, ms: at first only what is near the best
 * seen, then more and more, and anything after a second window without a better moment.
 */
export function acceptableAfter(trend: Trend, windowMs: number): number {
  const over = (trend.sinceBetterMs - windowMs) / windowMs;
  if (over >= 1) return Number.POSITIVE_INFINITY;
  const near = trend.bestMs * NEAR_BEST;
  return near + Math.max(0, trend.worstMs - near) * Math.max(0, over);
}

/**
 * How long to wait for a better moment, ms. Generous at first, since a busy guest may have a quiet
 * phase ahead: twice the time that one copy of all memory takes (what an abort would throw away),
 * or a tenth of the operator's own time limit, within 15 s and 60 s. It halves every four such
 * windows, so that a guest which keeps promising is not followed for ever. After a hold it begins
 * anew.
 */
export function patienceMs(stats: PrecopyStats, limits: PolicyLimits): number {
  const { totalPages, drainRate } = stats;
  const elapsedMs = stats.sinceHeldMs ?? stats.elapsedMs;
  const copyMs = drainRate > 0 ? ((totalPages * PAGE_SIZE) / drainRate) * 1000 : 0;
  const wished = Math.max(2 * copyMs, (limits.timeoutMs ?? 0) / 10);
  const window = Math.min(MAX_PATIENCE_MS, Math.max(MIN_PATIENCE_MS, wished));
  return window * 0.5 ** (elapsedMs / (4 * window));
}
