import { GodwitError } from '../../errors.ts';
import type { SourceGuest } from '../../guest/guest.ts';
import type { GuestLayout } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import { type LaneTotals, totalsSince } from '../../pages/counters.ts';
import type { SendPool } from '../../pages/send-pool.ts';
import { within } from '../../poll.ts';
import { formatDuration } from '../../units.ts';
import { dirtyLists } from '../../wire/dirty-list.ts';
import type { Link } from '../../wire/link.ts';
import type { Look, RoundEngine, RoundResult } from '../loop.ts';
import type { Progress } from '../measurements.ts';

/** A hypervisor that gets its memory in a stream may lag behind by a whole round of a large guest, ms. */
const TAKEN_LIMIT_MS = 600_000;

export interface RoundsOptions<Guest = SourceGuest> {
  readonly guest: Guest;
  readonly layout: GuestLayout;
  readonly pool: SendPool;
  readonly control: Link;
}

/**
 * The rounds of one migration: what sends their pages, and the records that tell the receiver what
 * to expect. The two kinds of guests differ in who decides what a round holds.
 */
export abstract class Rounds implements RoundEngine {
  protected readonly pool: SendPool;
  protected readonly control: Link;
  #round = 0;
  #roundPages = 0;
  #atBegin: LaneTotals;
  #taken = Promise.withResolvers<void>();

  constructor({ pool, control }: RoundsOptions) {
    this.pool = pool;
    this.control = control;
    this.#atBegin = pool.totals();
  }

  /** The pass that runs or ran last; 0 before the first. */
  get round(): number {
    return this.#round;
  }

  /** Pages that it set out to send. */
  get roundPages(): number {
    return this.#roundPages;
  }

  /** What it has sent so far. */
  get roundTotals(): LaneTotals {
    return totalsSince(this.pool.totals(), this.#atBegin);
  }

  /** How long the last sync took, ms. */
  abstract readonly lastSyncMs: number;

  /** Everything is pending from here on: no page was sent yet. */
  abstract begin(): Promise<void>;
  abstract sync(): Promise<number>;
  abstract send(round: number, held: boolean): Promise<RoundResult>;
  abstract rest(): Promise<void>;
  look?(): Promise<Look>;
  /** The last pass, over what is pending now; the guest is suspended. */
  abstract sendLast(): Promise<void>;
  abstract interrupt(): void;
  /** Leaves the guest as it was before `begin`; harmless when it is gone. */
  abstract end(): Promise<void>;

  progress(): Progress {
    const totals = this.pool.totals();
    const sent = totals.pages - this.#atBegin.pages;
    return {
      pagesWritten: totals.pages,
      wireBytes: totals.wireBytes,
      drainedBytes: totals.ackedContentBytes,
      burstRate: this.pool.burstRate,
      halted: !this.control.connected,
      pagesRemaining: Math.max(0, this.#roundPages - sent),
    };
  }

  /** The receiver's RoundTaken. */
  taken(round: number): void {
    if (round === this.#round) this.#taken.resolve();
  }

  protected roundBegins(round: number, pages: number): void {
    this.#taken = Promise.withResolvers();
    this.#round = round;
    this.#atBegin = this.pool.totals();
    this.#roundPages = pages;
  }

  /** Ends a round while the guest runs: resolves when its pages are in the memory of the destination. */
  protected async roundEnds(round: number, cutShort: boolean): Promise<void> {
    this.control.send('RoundEnd', { round, cutShort });
    await within(TAKEN_LIMIT_MS, this.#taken.promise, () => notTaken(round));
  }

  /** Tells the receiver which pages the round has. */
  protected async announce(round: number, stopAndCopy: boolean, pages: PageSet): Promise<void> {
    this.control.send('RoundBegin', { round, stopAndCopy, dirtyPages: pages.count() });
    for (const list of dirtyLists(round, pages)) {
      this.control.send('DirtyList', list);
      await this.control.ready();
    }
  }
}

function notTaken(round: number): GodwitError {
  const text = `the destination has not taken round ${round} into the guest's memory within ${formatDuration(TAKEN_LIMIT_MS)}`;
  return new GodwitError('no-progress', text);
}
