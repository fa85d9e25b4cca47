import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { LearnedParts, Lessons } from './calibration.ts';
import type { Estimate } from './stats.ts';
import type { Caps } from './suspension-rate.ts';

/** How fast the receiver takes guest memory: bytes per second, and how far samples stray from it. */
export interface Drain {
  readonly rate: number;
  /** Mean relative deviation of the samples, 0.1 for ten per cent. */
  readonly spread: number;
}

/** What a suspension costs besides sending pages, as far as it is known before it happens. */
export interface SuspensionCosts {
  /** Stopping the vCPUs and harvesting the dirty log for the last time. */
  readonly suspendMs: number;
  /** Digest of all memory, computed and compared. */
  readonly digestMs: number;
  /** One message to the peer and its answer. */
  readonly roundTripMs: number;
  readonly deviceStateBytes: number;
  /** Records that both sides make durable before the guest runs again. */
  readonly journalMs: number;
  /** Device state into the destination's hypervisor. */
  readonly loadMs: number;
  /** Re-reading all destination memory; 0 unless asked for. */
  readonly verifyMs: number;
  readonly resumeMs: number;
  /** That hold, or will in the suspension; left out: none. */
  readonly caps?: Caps;
  /** Of all this, what follows when Commit is said, and what the deadline keeps free (see `fit.ts`). */
  readonly afterMs: number;
  readonly reserveMs: number;
  /** Until Commit is said all but sending pages takes at least that long. */
  readonly leastMs: number;
  /** Where earlier suspensions like it were measured, that counts instead of all but `verifyMs`. */
  readonly learned?: Pick<Lessons, 'send' | 'band'> & LearnedParts;
}

/**
 * Round trips within a suspension: the last pages and their acknowledgement, the digest and
 * Prepared, and Commit, whose answer the guest no longer waits for (half a trip, rounded up).
 */
const HANDOVER_ROUND_TRIPS = 3;
/** Nobody has measured the fixed part of this move yet: it may take that much more or less. */
const FIXED_SPREAD = 0.5;
/** Just after a sync a guest dirties its hot pages fastest; the mean of a round understates it. */
const HOT_FACTOR = 2;

/** How long a cap of the suspension holds its device state up, ms; without one what it takes is learned. */
export function cappedMs(bytes: number, suspendBandwidth: number | undefined): number {
  return suspendBandwidth === undefined ? 0 : (bytes / suspendBandwidth) * 1000;
}

/** The part of a suspension that the number of remaining pages does not change, ms. */
export function fixedCostMs(costs: SuspensionCosts, drainRate: number): number {
  const { learned, leastMs, afterMs } = costs;
  const least = leastMs + afterMs;
  return Math.max(least, learned ? learnedMs(learned, costs, 0) : guessedMs(costs, drainRate));
}

/** @param sentMs sending the last pages at the rate of the rounds before */
function learnedMs(
  learned: NonNullable<SuspensionCosts['learned']>,
  { verifyMs, deviceStateBytes, caps: { suspendBandwidth } = {} }: SuspensionCosts,
  sentMs: number,
): number {
  const { stopMs, saveMs, tailMs, prepareMs, afterMs, send } = learned;
  const heldUpMs = cappedMs(deviceStateBytes, suspendBandwidth);
  const savedAndSent = Math.max(saveMs, send.offsetMs + sentMs + heldUpMs + tailMs);
  return stopMs + savedAndSent + prepareMs + verifyMs + afterMs;
}

function guessedMs(costs: SuspensionCosts, drainRate: number): number {
  const { deviceStateBytes, caps: { suspendBandwidth } = {} } = costs;
  return (
    costs.suspendMs +
    costs.digestMs +
    costs.journalMs +
    HANDOVER_ROUND_TRIPS * costs.roundTripMs +
    (deviceStateBytes / Math.min(drainRate, suspendBandwidth ?? Infinity)) * 1000 +
    costs.loadMs +
    costs.verifyMs +
    costs.resumeMs
  );
}

/**
 * Forecast of the suspension, were it to begin now with `pages` to send.
 *
 *     expected = (pages + dirtyRate × suspendMs) × PAGE_SIZE / drainRate + fixed
 *
 * The first term is QEMU's and Cloud Hypervisor's (remaining bytes / bandwidth; QEMU's threshold is
 * the same equation solved for bytes: bandwidth × downtime limit), with the pages that the guest
 * still dirties until it stands. They leave out the fixed part, and the measured suspension "often
 * lands above" (KubeVirt VEP 248). Low and high use the rates one spread above and below the mean.
 *
 * Where suspensions like it were measured before, each part is what it was: a guest's device state is
 * saved while its last pages travel, so that the longer one of the two counts; and low and high are
 * what nine of ten of them were off by.
 *
 * @param dirtyRate pages per second
 */
export function estimateSuspension(
  pages: number,
  dirtyRate: number,
  drain: Drain,
  costs: SuspensionCosts,
): Estimate {
  const fixed = fixedCostMs(costs, drain.rate);
  const { afterMs: after, reserveMs: reserve } = costs;
  const lastDirtied = (dirtyRate * costs.suspendMs) / 1000;
  const sendMs = (count: number, rate: number) => ((count * PAGE_SIZE) / rate) * 1000;
  if (costs.learned) {
    const { send, band } = costs.learned;
    const last = pages + lastDirtied;
    const sent = Math.max(0, sendMs(last, drain.rate) + send.perPageMs * last);
    const least = costs.leastMs + after + sent;
    const expected = Math.max(fixed, least, learnedMs(costs.learned, costs, sent));
    const [low, high] = [expected * band.low, expected * band.high];
    return Object.freeze({ low, expected, high, fixed, after, reserve });
  }
  return Object.freeze({
    low: sendMs(pages, drain.rate * (1 + drain.spread)) + fixed * (1 - FIXED_SPREAD),
    expected: sendMs(pages + lastDirtied, drain.rate) + fixed,
    high:
      sendMs(pages + lastDirtied * HOT_FACTOR, drain.rate * (1 - drain.spread)) +
      fixed * (1 + FIXED_SPREAD),
    fixed,
    after,
    reserve,
  });
}
