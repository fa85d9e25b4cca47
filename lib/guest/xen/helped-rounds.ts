import { setTimeout as sleep } from 'node:timers/promises';
import type { RoundMark } from './ingest-protocol.ts';
import type { TransportClient } from './transport-protocol.ts';

/** What libxc has written of a round is read this long after its word at the latest: a round whose end does not show, ms. */
const READ_LIMIT_MS = 500;

/** The rounds of libxc as it counts them, told by a save helper of ours. */
export class HelpedRounds {
  readonly #transport: Pick<TransportClient, 'on' | 'helper'>;
  readonly #totalPages: number;
  readonly #read: (round: number) => Promise<RoundMark>;
  #pass = { number: 1, dirtyPages: 0 };
  #asks = false;
  /** When the last round began, ms of `performance.now`, and pages a second that were dirtied in the one before it. */
  #began = performance.now();
  #dirtyRate = 0;
  #onPass = () => {};

  /**
   * @param read resolves when the stream was read to the end of so many rounds
   * @param totalPages of the guest
   */
  constructor(
    transport: Pick<TransportClient, 'on' | 'helper'>,
    read: (round: number) => Promise<RoundMark>,
    totalPages: number,
  ) {
    this.#transport = transport;
    this.#totalPages = totalPages;
    this.#read = read;
    transport.on('HELPER', () => void this.#heard());
  }

  /** Calls back for each round that begins, and when there is none any more. */
  follow(onPass: () => void): void {
    this.#onPass = onPass;
    void this.#heard();
  }

  get pass(): { readonly number: number; readonly dirtyPages: number } {
    return this.#pass;
  }

  /** The rounds are over, and the suspension waits for a word. */
  get asks(): boolean {
    return this.#asks;
  }

  /** What the guest has dirtied since the last round began, were it other pages all the time: libxc counts no more. */
  get dirtyPages(): number {
    // Words of two rounds that were heard at once, on a busy host, make a rate of any size.
    const dirtied = Math.round((this.#dirtyRate * (performance.now() - this.#began)) / 1000);
    return Math.min(dirtied, this.#totalPages);
  }

  async #heard(): Promise<void> {
    const { state, round, pages } = this.#transport.helper;
    if (state !== 'saves' && state !== 'asks') return;
    if (state === 'saves' && round > 1 && round > this.#pass.number) this.#roundBegins(pages);
    const ended = state === 'asks' ? round : round - 1;
    await Promise.race([this.#read(ended).catch(() => {}), sleep(READ_LIMIT_MS)]);
    const isNews = ended + 1 > this.#pass.number;
    if (isNews)
      this.#pass = { number: ended + 1, dirtyPages: state === 'asks' ? this.dirtyPages : pages };
    if (state === 'asks') this.#asks = true;
    if (isNews || state === 'asks') this.#onPass();
  }

  #roundBegins(pages: number): void {
    const now = performance.now();
    this.#dirtyRate = (pages * 1000) / Math.max(1, now - this.#began);
    this.#began = now;
  }
}
