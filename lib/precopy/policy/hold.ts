import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { isHeld } from '../hold.ts';
import { type Estimate, lastRate, type PrecopyStats, UNKNOWN, type Verdict } from '../stats.ts';
import { abort, goOn, hold, range, text } from './wording.ts';

/** Where no limit is set (policy xen), a held guest is kept ready for the default of the others. */
const READY_MS = 300;
/** Another round is worth its bytes when it leaves at most this share of what is dirty. */
const USEFUL_SHARE = 0.8;
/** Shortest time over which what the guest dirties can be told from what it dirties again, ms. */
const USEFUL_MS = 1000;

/**
 * What a held guest costs and what it is ready for. Undefined while it is not held.
 *
 * - **Ready** while the forecast stays below the middle between its fixed part and what is allowed:
 *   then nothing is sent, and the dirty set just grows (a hot set only once).
 * - A round is sent when the forecast leaves that, and is **useful** only when it leaves clearly
 *   less: the last round did, or the guest dirtied less in a second than is dirty by now.
 * - Otherwise the guest is too busy to be moved, and rounds would only cost.
 *
 * `--timeout` bounds a hold whatever is preferred: nobody who holds a guest wants it moved by a
 * clock that he did not name.
 *
 * @param allowedMs the longest suspension that keeps the promise
 */
export function onHold(
  stats: PrecopyStats,
  allowedMs: number,
  timeoutMs: number | undefined,
): Verdict | undefined {
  if (!isHeld(stats)) return undefined;
  const { elapsedMs } = stats;
  const held = heldInWords(stats);
  if (timeoutMs !== undefined && elapsedMs >= timeoutMs)
    return abort(`the ${text(timeoutMs)} of --timeout passed while the guest was ${held}`);
  return keepReady(stats, allowedMs, held);
}

/** One step of staying ready. @param held why the guest is not moved, as it follows "the guest is" */
export function keepReady(stats: PrecopyStats, allowedMs: number, held: string): Verdict {
  const { when, iteration, totalPages, dirtyCount, estimate } = stats;
  if (when === 'after-round')
    return goOn(`round ${iteration} is sent; the guest is ${held}; the next sync tells more`);
  if (when === 'in-round') {
    const now = estimate === undefined ? 'no forecast yet' : `forecast ${range(estimate)}`;
    return goOn(`round ${iteration + 1} is running, ${now}; the guest is ${held}`);
  }
  if (iteration === 0) return goOn(`nothing is sent yet: all ${totalPages} pages are to go`);
  if (estimate === undefined)
    return dirtyCount === 0
      ? hold(`no page is left to send; the guest is ${held}`)
      : goOn(`${dirtyCount} pages are dirty; no forecast yet`);
  return when === 'at-rest'
    ? atRest(stats, estimate, allowedMs, held)
    : atLook(stats, estimate, allowedMs, held);
}

/** Between two looks: by the last dirty rate, which the next look may find to be the same pages again. */
function atRest(stats: PrecopyStats, estimate: Estimate, allowedMs: number, held: string): Verdict {
  const bound = readyBelow(estimate, allowedMs);
  const lastLook = estimate.fixed + sendMs(stats.dirtyCount, lastRate(stats));
  if (lastLook <= bound && estimate.expected > bound)
    return goOn(`forecast ${range(estimate)} may have left the ${text(bound)} of a ready guest`);
  return lastLook <= bound
    ? hold(`ready, forecast ${range(estimate)}; ${held}`)
    : hold(`too busy, forecast ${range(estimate)}; ${held}`);
}

function atLook(stats: PrecopyStats, estimate: Estimate, allowedMs: number, held: string): Verdict {
  const bound = readyBelow(estimate, allowedMs);
  if (estimate.expected <= bound) return hold(`ready, forecast ${range(estimate)}; ${held}`);
  if (isUseful(stats))
    return goOn(
      `forecast ${range(estimate)} is above the ${text(bound)} of a ready guest: another round shortens it; ${held}`,
    );
  return hold(
    `too busy, forecast ${range(estimate)}: another round would leave as much as it sends; ${held}`,
  );
}

/** What no round can shorten is not asked of one. */
function readyBelow({ fixed }: Estimate, allowedMs: number): number {
  const allowed = Number.isFinite(allowedMs) ? allowedMs : READY_MS;
  return (Math.min(fixed, allowed) + allowed) / 2;
}

function isUseful({ dirtyCount, dirtyRate, drainRate, history }: PrecopyStats): boolean {
  const last = history.at(-1);
  const justSent = last?.dirtiedPages === dirtyCount;
  if (justSent && dirtyCount <= last.dirtyPages * USEFUL_SHARE) return true;
  const ms = Math.max(USEFUL_MS, sendMs(dirtyCount, drainRate));
  return (dirtyRate * ms) / 1000 <= dirtyCount * USEFUL_SHARE;
}

function sendMs(pages: number, drainRate: number): number {
  return ((pages * PAGE_SIZE) / drainRate) * 1000;
}

function heldInWords({ hold }: PrecopyStats): string {
  return hold === undefined || hold.opensMs === UNKNOWN
    ? 'held until a cutover is ordered'
    : `held for another ${text(hold.opensMs)}`;
}
