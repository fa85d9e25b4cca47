import type { PushingGuest } from '../../guest/guest.ts';
import type { GuestLayout } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import type { RoundResult } from '../loop.ts';
import type { Progress } from '../measurements.ts';
import { Rounds, type RoundsOptions } from './rounds.ts';

/** Rounds of a guest whose hypervisor makes the passes: each is told when it is over. */
export class PushedRounds extends Rounds {
  readonly #guest: PushingGuest;
  readonly #layout: GuestLayout;
  readonly #rings: readonly SharedArrayBuffer[];
  /** The pass that `sync` has last told of. */
  #pass = 1;
  #pending = 0;
  #interrupted: (() => void) | undefined;
  lastSyncMs = 0;

  constructor(options: RoundsOptions<PushingGuest> & { rings: readonly SharedArrayBuffer[] }) {
    super(options);
    this.#guest = options.guest;
    this.#layout = options.layout;
    this.#rings = options.rings;
  }

  begin(): Promise<void> {
    return this.#guest.startPushing(this.#rings);
  }

  /** Between passes this is what the pass that has begun sets out to send. */
  async sync(): Promise<number> {
    const started = performance.now();
    const { number, dirtyPages } = this.#guest.pass;
    const pages = number > this.#pass ? dirtyPages : await this.#guest.pendingPages();
    this.#pass = number;
    this.lastSyncMs = performance.now() - started;
    this.#pending = pages;
    return pages;
  }

  rest(): Promise<void> {
    return this.#guest.rest();
  }

  async send(round: number, held: boolean): Promise<RoundResult> {
    this.roundBegins(round, round === 1 ? this.#layout.totalPages : this.#pending);
    await this.#guest.goOn(held);
    const cutShort = await this.#passEnds();
    if (!cutShort) await this.#guest.hold();
    return { cutShort: (await this.#close(round, false)) || cutShort };
  }

  async sendLast(): Promise<void> {
    const round = this.round + 1;
    this.roundBegins(round, this.#pending);
    await this.#guest.pushedAll();
    await this.#close(round, true);
  }

  interrupt(): void {
    this.#interrupted?.();
  }

  override progress(): Progress {
    return { ...super.progress(), slowed: this.#guest.slow };
  }

  end(): Promise<void> {
    return this.#guest.stopPushing();
  }

  /** Resolves when the hypervisor begins another pass; true: when it was interrupted. */
  #passEnds(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#interrupted = () => resolve(true);
      const look = () => {
        const { pass, ownPace } = this.#guest;
        if (pass.number > this.#pass || ownPace?.asks) resolve(false); // who asks makes no more
      };
      this.#guest.onPass(look);
      look();
    });
  }

  /**
   * Settles what was pushed since the last round and tells the receiver of it; true: pages that it
   * was told of are still to come. The first round is every page, whenever they come.
   */
  async #close(round: number, stopAndCopy: boolean): Promise<boolean> {
    const { chunks, pages } = await this.#guest.publish(round);
    await this.pool.settled(chunks);
    const announced = round === 1 && !stopAndCopy ? this.#everyPage() : pages;
    const cutShort = announced.count() > pages.count();
    await this.announce(round, stopAndCopy, announced);
    if (stopAndCopy) this.control.send('RoundEnd', { round, cutShort });
    else await this.roundEnds(round, cutShort);
    return cutShort;
  }

  #everyPage(): PageSet {
    const all = new PageSet(this.#layout.pfnEnd);
    all.addAll(this.#layout);
    return all;
  }
}
