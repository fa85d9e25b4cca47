import type { SourceGuest } from '../lib/guest/guest.ts';
import type { GuestLayout } from '../lib/memory/guest-layout.ts';
import type { PageSet } from '../lib/memory/page-set.ts';
import { type ChannelTotals, totalsSince } from '../lib/pages/counters.ts';
import type { SendPool } from '../lib/pages/send-pool.ts';
import type { RoundEngine, RoundResult } from '../lib/precopy/loop.ts';
import type { Progress } from '../lib/precopy/measurements.ts';
import { dirtyLists } from '../lib/wire/dirty-list.ts';
import type { Link } from '../lib/wire/link.ts';

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
  #atBegin: ChannelTotals;
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
  get roundTotals(): ChannelTotals {
    return totalsSince(this.pool.totals(), this.#atBegin);
  }

  /** How long the last sync took, ms. */
  abstract readonly lastSyncMs: number;

  /** Everything is pending from here on: no page was sent yet. */
  abstract begin(): Promise<void>;
  abstract sync(): Promise<number>;
  abstract send(round: number): Promise<RoundResult>;
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
    await this.#taken.promise;
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
