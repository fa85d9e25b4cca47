import type { PrecopyStats, Verdict } from '../precopy/stats.ts';
import type { HoldView } from './view.ts';

/** The ledger has a consultation only so often, ms, while a guest is held: that may be for days. */
const HELD_RECORD_MS = 10_000;
/** A forecast that is lower than all on record since then: what a smaller limit is replayed with. */
const LOWER = 0.99;

/** Which consultations the ledger takes: all of a guest that is not held, of one that is what a replay needs. */
export class ConsultationNews {
  /** Of the last one that the ledger has, and the lowest forecast of those in this hold, ms. */
  #recorded:
    | { readonly at: number; readonly action: Verdict['action']; readonly lowestMs: number }
    | undefined;
  /** A round has ended, and the ledger has not what the sync after it found. */
  #unsynced = false;

  /** A round while the guest runs. */
  roundEnded(): void {
    this.#unsynced = true;
  }

  /**
   * Whether the ledger takes this one; then it has it.
   * @param at ms since the migration began
   */
  isNews(
    at: number,
    hold: HoldView | undefined,
    stats: PrecopyStats,
    { action }: Verdict,
  ): boolean {
    if (this.#isAsBefore(at, hold, stats, action)) return false;
    const highMs = stats.estimate?.high ?? Number.POSITIVE_INFINITY;
    const before = hold === undefined ? Number.POSITIVE_INFINITY : this.#recorded?.lowestMs;
    const lowestMs = Math.min(highMs, before ?? Number.POSITIVE_INFINITY);
    this.#recorded = { at, action, lowestMs };
    if (stats.when === 'before-round') this.#unsynced = false;
    return true;
  }

  /**
   * The same again of a guest that is held and has been ready. What a replay needs is news: each sync
   * after a round, since the history is made of them, and each forecast below those before it, since
   * another limit may have been waiting for that. Between two looks nothing is decided.
   */
  #isAsBefore(
    at: number,
    hold: HoldView | undefined,
    { when, estimate }: PrecopyStats,
    action: Verdict['action'],
  ): boolean {
    if (hold?.wirePerMinute === undefined || this.#recorded === undefined) return false;
    const { lowestMs } = this.#recorded;
    if (action === 'abort') return false;
    if (when === 'at-rest') return true;
    const lower = (estimate?.high ?? Number.POSITIVE_INFINITY) < lowestMs * LOWER;
    const turns = action !== this.#recorded.action || this.#unsynced || lower;
    return !(turns && when === 'before-round') && at - this.#recorded.at < HELD_RECORD_MS;
  }
}
