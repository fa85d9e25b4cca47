import type { ReadableGuest } from '../../guest/guest.ts';
import { PageSet } from '../../memory/page-set.ts';
import type { Look, RoundResult } from '../loop.ts';
import { Rounds, type RoundsOptions } from './rounds.ts';

/** Rounds over a guest whose memory and dirty log can be read at will: the set of pending pages. */
export class ReadRounds extends Rounds {
  readonly #guest: ReadableGuest;
  readonly #pending: PageSet;
  lastSyncMs = 0;

  constructor(options: RoundsOptions<ReadableGuest>) {
    super(options);
    this.#guest = options.guest;
    this.#pending = new PageSet(options.layout.pfnEnd);
    this.#pending.addAll(options.layout);
  }

  begin(): Promise<void> {
    return this.#guest.startDirtyLog();
  }

  async sync(): Promise<number> {
    const started = performance.now();
    await this.#guest.syncDirtyLog(this.#pending);
    this.lastSyncMs = performance.now() - started;
    return this.#pending.count();
  }

  async rest(): Promise<void> {}

  override async look(): Promise<Look> {
    const started = performance.now();
    const dirtied = new PageSet(this.#pending.pfnEnd);
    await this.#guest.syncDirtyLog(dirtied);
    this.lastSyncMs = performance.now() - started;
    this.#pending.addSet(dirtied);
    return { pages: this.#pending.count(), dirtied: dirtied.count() };
  }

  send(round: number): Promise<RoundResult> {
    return this.#pass(round, false);
  }

  async sendLast(): Promise<void> {
    await this.#pass(this.round + 1, true);
  }

  interrupt(): void {
    this.pool.interrupt();
  }

  end(): Promise<void> {
    return this.#guest.stopDirtyLog();
  }

  async #pass(round: number, stopAndCopy: boolean): Promise<RoundResult> {
    this.roundBegins(round, this.#pending.count());
    await this.announce(round, stopAndCopy, this.#pending);
    const cutShort = await this.pool.sendRound(round, this.#pending);
    if (stopAndCopy) this.control.send('RoundEnd', { round, cutShort });
    else await this.roundEnds(round, cutShort);
    return { cutShort };
  }
}
