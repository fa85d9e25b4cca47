import { setTimeout } from 'node:timers/promises';

/** How far the stream may fall behind its cap and catch up: one scheduling hiccup, in ns. */
const BURST_NS = 5_000_000n;

/** Longest sleep after which a sender looks whether the rate has changed, ms. */
const STEP_MS = 200;

/** Bytes of shared memory for a pacer. */
export const PACER_SIZE = 24;

/**
 * The bandwidth cap of a migration, shared by all its workers (generic cell rate algorithm): one
 * 64-bit "the link is free again at", which each sender moves forward by what it sends. The rate
 * may change at any time.
 */
export class Pacer {
  /** [0] ns at which the next byte may go, [1] bytes per second, 0 for no cap, [2] changes of it. */
  readonly #shared: BigInt64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#shared = new BigInt64Array(buffer);
  }

  /** Sets the cap in bytes per second; undefined takes it away. */
  setRate(bytesPerSecond: number | undefined): void {
    Atomics.store(this.#shared, 1, BigInt(Math.ceil(bytesPerSecond ?? 0)));
    // What was claimed at the old rate no longer counts.
    Atomics.store(this.#shared, 0, 0n);
    Atomics.add(this.#shared, 2, 1n);
  }

  /** Waits until `bytes` may go; a new rate meanwhile ends the wait. */
  async pass(bytes: number): Promise<void> {
    const changes = Atomics.load(this.#shared, 2);
    let left = this.claim(bytes);
    for (; left >= 1 && Atomics.load(this.#shared, 2) === changes; left -= STEP_MS)
      await setTimeout(Math.min(left, STEP_MS));
  }

  /** Claims room for `bytes` on the link; returns the milliseconds to wait before sending them. */
  claim(bytes: number, nowNs: bigint = process.hrtime.bigint()): number {
    const rate = Atomics.load(this.#shared, 1);
    if (rate === 0n) return 0;
    const cost = (BigInt(bytes) * 1_000_000_000n) / rate;
    for (;;) {
      const free = Atomics.load(this.#shared, 0);
      const start = free > nowNs - BURST_NS ? free : nowNs - BURST_NS;
      if (Atomics.compareExchange(this.#shared, 0, free, start + cost) === free)
        return start > nowNs ? Number(start - nowNs) / 1e6 : 0;
    }
  }
}
