import type { Counters } from './counters.ts';

/** Guest bytes below which a batch shows the time of its answer and not the rate of its way: 64 pages. */
const MIN_BYTES = 256 << 10;

/**
 * How long single batches take that have their lane to themselves, from reading one to its
 * acknowledgement, the wait for the bandwidth cap left out: what the way carries without the cap.
 */
export class BurstMeter {
  readonly #counters: Counters;
  #sinceMs: number | undefined;
  #sent: { readonly sequence: number; readonly bytes: number } | undefined;

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** A batch is begun. @param outstanding others that are on their way */
  begin(outstanding: number): void {
    this.#sinceMs = outstanding === 0 ? performance.now() : undefined;
    this.#sent = undefined;
  }

  /** It waited for the cap. */
  waited(ms: number): void {
    if (this.#sinceMs !== undefined) this.#sinceMs += ms;
  }

  /** It is on its way; so many bytes of the guest, zero pages left out. */
  sent(sequence: number, bytes: number): void {
    if (this.#sinceMs !== undefined && bytes >= MIN_BYTES) this.#sent = { sequence, bytes };
  }

  acknowledged(sequence: number): void {
    if (this.#sent === undefined || sequence < this.#sent.sequence) return;
    this.#counters.add('burstBytes', this.#sent.bytes);
    this.#counters.add('burstMs', performance.now() - this.#sinceMs!);
    this.#sent = undefined;
  }
}
