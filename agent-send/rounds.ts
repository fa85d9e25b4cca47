import type { SourceGuest } from '../lib/guest/guest.ts';
import type { GuestLayout } from '../lib/memory/guest-layout.ts';
import { PageSet } from '../lib/memory/page-set.ts';
import { type ChannelTotals, totalsSince } from '../lib/pages/counters.ts';
import type { SendPool } from '../lib/pages/send-pool.ts';
import type { RoundEngine, RoundResult } from '../lib/precopy/loop.ts';
import type { Progress } from '../lib/precopy/measurements.ts';
import { dirtyLists } from '../lib/wire/dirty-list.ts';
import type { Link } from '../lib/wire/link.ts';

/**
 * Rounds over a guest whose memory and dirty log can be read at will: the set of pending pages, the
 * workers that send it, and the records that tell the receiver what to expect.
 */
export class MemoryRounds implements RoundEngine {
  readonly #guest: SourceGuest;
  readonly #pool: SendPool;
  readonly #control: Link;
  readonly #pending: PageSet;
  #round = 0;
  #roundPages = 0;
  #atBegin: ChannelTotals;
  #lastSyncMs = 0;

  /** Everything is pending: no page was sent yet. */
  constructor(guest: SourceGuest, layout: GuestLayout, pool: SendPool, control: Link) {
    this.#guest = guest;
    this.#pool = pool;
    this.#control = control;
    this.#pending = new PageSet(layout.pfnEnd);
    this.#pending.addAll(layout);
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
    return totalsSince(this.#pool.totals(), this.#atBegin);
  }

  /** How long the last harvest of the dirty log took, ms. */
  get lastSyncMs(): number {
    return this.#lastSyncMs;
  }

  async sync(): Promise<number> {
    const started = performance.now();
    await this.#guest.syncDirtyLog(this.#pending);
    this.#lastSyncMs = performance.now() - started;
    return this.#pending.count();
  }

  send(round: number): Promise<RoundResult> {
    return this.#pass(round, false);
  }

  /** The last pass, over what is pending now; the guest is suspended. */
  async sendLast(): Promise<void> {
    await this.#pass(this.#round + 1, true);
  }

  interrupt(): void {
    this.#pool.interrupt();
  }

  progress(): Progress {
    const totals = this.#pool.totals();
    const sent = totals.pages - this.#atBegin.pages;
    return {
      pagesWritten: totals.pages,
      wireBytes: totals.wireBytes,
      drainedBytes: totals.ackedContentBytes,
      halted: !this.#control.connected,
      pagesRemaining: Math.max(0, this.#roundPages - sent),
    };
  }

  async #pass(round: number, stopAndCopy: boolean): Promise<RoundResult> {
    this.#round = round;
    this.#atBegin = this.#pool.totals();
    this.#roundPages = this.#pending.count();
    this.#control.send('RoundBegin', { round, stopAndCopy, dirtyPages: this.#roundPages });
    for (const list of dirtyLists(round, this.#pending)) {
      this.#control.send('DirtyList', list);
      await this.#control.ready();
    }
    const cutShort = await this.#pool.sendRound(round, this.#pending);
    this.#control.send('RoundEnd', { round, cutShort });
    return { cutShort };
  }
}
