import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { Drain } from './estimate.ts';

/** Weight of a new sample, as in KubeVirt VEP 248: follows a real change within a few samples. */
const ALPHA = 0.4;
/** Below these a sample measures the latency of a burst, not the rate of a stream. */
const MIN_SAMPLE_MS = 20;
const MIN_SAMPLE_BYTES = 1 << 20;
/** Spread before there is a second sample, and its bounds: links are never exact, never hopeless. */
const FIRST_SPREAD = 0.25;
const MIN_SPREAD = 0.05;
const MAX_SPREAD = 0.5;
/** Bytes per second assumed after a pass in which there was nothing but zero pages: 100 Mbit/s. */
const ASSUMED_RATE = 12.5e6;

/** Counters since the migration began, in pages and bytes. */
interface Point {
  readonly pagesWritten: number;
  readonly drainedBytes: number;
  readonly atMs: number;
}

/**
 * The drain rate, smoothed over samples of acknowledged guest bytes (zero pages left out). Time
 * between passes does not count: `begin` and `end` enclose each stretch of continuous sending.
 */
export class DrainMeter {
  #from: Point | undefined;
  #rate = 0;
  #spread = FIRST_SPREAD;
  /** True while the rate comes from stretches too short to be trusted. */
  #provisional = true;

  /** Rate 0 until something has been measured. */
  get drain(): Drain {
    return { rate: this.#rate, spread: this.#provisional ? MAX_SPREAD : this.#spread };
  }

  begin(point: Point): void {
    this.#from = point;
  }

  sample(point: Point): void {
    if (this.#from === undefined) return;
    const ms = point.atMs - this.#from.atMs;
    const bytes = point.drainedBytes - this.#from.drainedBytes;
    const written = (point.pagesWritten - this.#from.pagesWritten) * PAGE_SIZE;
    if (ms < MIN_SAMPLE_MS || bytes < MIN_SAMPLE_BYTES) {
      // Mostly zero pages: the time went into scanning them and says nothing about the link.
      if (ms >= MIN_SAMPLE_MS && written > 2 * bytes + MIN_SAMPLE_BYTES) this.#from = point;
      return;
    }
    this.#take((bytes / ms) * 1000);
    this.#from = point;
  }

  end(point: Point): void {
    const from = this.#from;
    this.sample(point);
    this.#from = undefined;
    if (from === undefined || !this.#provisional) return;
    const ms = point.atMs - from.atMs;
    const bytes = point.drainedBytes - from.drainedBytes;
    // A short burst waits for its acknowledgement most of the time: an underestimate, hence safe.
    if (bytes > 0 && ms > 0) this.#rate = (bytes / ms) * 1000;
    else if (this.#rate === 0) this.#rate = ASSUMED_RATE;
  }

  #take(rate: number): void {
    if (this.#provisional) {
      this.#provisional = false;
      this.#rate = rate;
      return;
    }
    const deviation = Math.abs(rate - this.#rate) / this.#rate;
    const spread = ALPHA * deviation + (1 - ALPHA) * this.#spread;
    this.#spread = Math.min(MAX_SPREAD, Math.max(MIN_SPREAD, spread));
    this.#rate = ALPHA * rate + (1 - ALPHA) * this.#rate;
  }
}
