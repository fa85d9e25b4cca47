import { UNDIVIDED } from '../precopy/fit.ts';
import { heldUntil, isHeld } from '../precopy/hold.ts';
import { termsOf } from '../precopy/policy/terms.ts';
import type { Estimate, PolicyLimits, PrecopyStats, Verdict } from '../precopy/stats.ts';
import type { HoldView } from './view.ts';
import { WireRate } from './wire-rate.ts';

const MINUTE = 60_000;

/** A hold as it goes: whether the guest is ready, since when, and what that costs. */
export class HoldFacts {
  #hold: { ready: boolean; readySince: number | undefined; readonly cost: WireRate } | undefined;

  /**
   * @param at ms since the migration began
   * @returns undefined while the guest is not held
   */
  consulted(
    stats: PrecopyStats,
    { action }: Verdict,
    limits: PolicyLimits | undefined,
    at: number,
  ): HoldView | undefined {
    if (!isHeld(stats) || limits === undefined) {
      this.#hold = undefined;
      return undefined;
    }
    this.#hold ??= { ready: false, readySince: undefined, cost: new WireRate(MINUTE) };
    const hold = this.#hold;
    // Between two looks the verdict is about the next round only.
    if (stats.when === 'before-round' || stats.when === 'at-rest')
      hold.ready = action === 'hold' && fits(stats.estimate, limits);
    if (hold.ready) hold.readySince ??= at;
    const { ready, readySince } = hold;
    const until = heldUntil(stats.hold!, Date.now());
    if (readySince === undefined) return { until, ready, ms: 0, wirePerMinute: undefined };
    const rate = hold.cost.add(stats.wireBytes);
    return { until, ready, ms: at - readySince, wirePerMinute: (rate * MINUTE) / 1000 };
  }
}

/** A suspension now would keep the promise; true where there is no forecast, since nothing is dirty. */
function fits(estimate: Estimate | undefined, limits: PolicyLimits): boolean {
  const { allowed } = termsOf(limits, estimate ?? UNDIVIDED);
  return (estimate?.expected ?? 0) <= allowed;
}
