/**
 * Which zstd level a batch gets, decided from measured rates. Pure: the worker tells it what
 * batches cost and how the lane drains.
 *
 * The model: a guest byte costs the worker `overhead` (read, hash, send) plus 1/speed(level) to
 * compress, and the link 1/(linkRate × ratio(level)). Both work at the same time, so the slower one
 * sets the pace, and the level with the fastest pace wins; on a tie the cheaper one.
 */

/** zstd levels on offer; 0 stands for no compression. */
export const LEVELS = [0, 1, 3, 6] as const;
export type Level = (typeof LEVELS)[number];

/** Names for counters and reports. */
export const LEVEL_NAMES = ['off', 'zstd1', 'zstd3', 'zstd6'] as const;

/** Bytes per second and ratio on mixed guest content on one core, until measured here. */
const PRIORS: Readonly<Record<Level, { speed: number; ratio: number }>> = {
  0: { speed: Number.POSITIVE_INFINITY, ratio: 1 },
  1: { speed: 300e6, ratio: 2.1 },
  3: { speed: 180e6, ratio: 2.3 },
  6: { speed: 70e6, ratio: 2.45 },
};

/** Weight of a new batch in the smoothed speed and ratio of its level. */
const BATCH_WEIGHT = 0.1;
/** Weight of a new interval in the smoothed overhead. */
const OVERHEAD_WEIGHT = 0.3;
/** Weight of an interval in which the link was the limit: it is then measured, not guessed. */
const LINK_WEIGHT = 0.7;
/** Above this share of an interval spent waiting for the link, the link is the limit. */
const BLOCKED_SHARE = 0.15;
/**
 * An end with no more time to spare than this is what is waited for: what goes over the link then is its own
 * pace and says nothing of the link, and compressing would make it slower still.
 */
const BUSY = 0.9;
/**
 * A link that is not the limit may be faster than seen: its assumed rate grows by this per interval,
 * doubling in seven seconds. Growing too far costs a few intervals without compression.
 */
const LINK_GROWTH = 1.01;
/** A level must promise this much more than the present one to be taken: no flapping on noise. */
const SWITCH_GAIN = 1.15;
/** Every so many batches one goes at a neighbouring level, so that its numbers stay fresh. */
const PROBE_EVERY = 64;

/** How the lane did in an interval, in seconds and bytes. */
export interface LaneInterval {
  readonly seconds: number;
  /** Of these, waiting for a free slot or for the bandwidth cap. */
  readonly blockedSeconds: number;
  /** Of these, inside the compressor. */
  readonly compressSeconds: number;
  readonly wireBytes: number;
  readonly guestBytes: number;
  /** Share of its time in which the busier end's thread had work, as each said at the end; 0: neither says. */
  readonly busiest: number;
}

export class CompressionChoice {
  readonly #measured = new Map<Level, { speed: number; ratio: number }>();
  #linkRate = Number.POSITIVE_INFINITY;
  #overhead = 1 / 1e9;
  #level: Level = 0;
  #batches = 0;
  #linkIsLimit = false;

  /** True when the lane waited for its link in the last interval: the worker has time to spare. */
  get linkIsLimit(): boolean {
    return this.#linkIsLimit;
  }

  /** The level for the next batch. */
  next(): Level {
    this.#batches++;
    if (this.#level !== 0 && this.#batches % PROBE_EVERY === 0) {
      const neighbours = LEVELS.filter(
        (l) => l !== 0 && Math.abs(LEVELS.indexOf(l) - LEVELS.indexOf(this.#level)) === 1,
      );
      return neighbours[(this.#batches / PROBE_EVERY) % neighbours.length]!;
    }
    return this.#level;
  }

  /** A batch's raw section went from `rawBytes` to `wireBytes` in `seconds`. */
  batch(level: Level, rawBytes: number, wireBytes: number, seconds: number): void {
    if (level === 0 || rawBytes === 0 || seconds <= 0) return;
    const seen = { speed: rawBytes / seconds, ratio: rawBytes / Math.max(1, wireBytes) };
    const known = this.#measured.get(level);
    this.#measured.set(level, {
      speed: known ? mix(known.speed, seen.speed, BATCH_WEIGHT) : seen.speed,
      ratio: known ? mix(known.ratio, seen.ratio, BATCH_WEIGHT) : seen.ratio,
    });
  }

  /** The lane's last interval; decides the level anew. */
  interval(seen: LaneInterval): void {
    if (seen.seconds <= 0 || seen.guestBytes <= 0) return;
    const busy = seen.seconds - seen.blockedSeconds - seen.compressSeconds;
    this.#overhead = mix(this.#overhead, Math.max(0, busy) / seen.guestBytes, OVERHEAD_WEIGHT);
    const rate = seen.wireBytes / seen.seconds;
    const waited = seen.blockedSeconds / seen.seconds > BLOCKED_SHARE;
    this.#linkIsLimit = waited && seen.busiest < BUSY;
    if (this.#linkIsLimit) {
      this.#linkRate = Number.isFinite(this.#linkRate)
        ? mix(this.#linkRate, rate, LINK_WEIGHT)
        : rate;
    } else {
      this.#linkRate = Math.max(this.#linkRate * LINK_GROWTH, rate);
    }
    this.#decide();
  }

  /** Guest bytes per second that a level promises. */
  pace(level: Level): number {
    const { speed, ratio } = this.#expected(level);
    return 1 / Math.max(this.#overhead + 1 / speed, 1 / (this.#linkRate * ratio));
  }

  #decide(): void {
    let best = this.#level;
    for (const level of LEVELS) {
      if (this.pace(level) > this.pace(best) * SWITCH_GAIN) best = level;
    }
    this.#level = best;
  }

  /** Measured where there is a measurement, else the prior scaled as the nearest measured level is. */
  #expected(level: Level): { speed: number; ratio: number } {
    const known = this.#measured.get(level);
    if (known || level === 0) return known ?? PRIORS[level];
    const nearest = [...this.#measured.keys()].sort(
      (a, b) => Math.abs(a - level) - Math.abs(b - level),
    )[0];
    if (nearest === undefined) return PRIORS[level];
    const seen = this.#measured.get(nearest)!;
    return {
      speed: PRIORS[level].speed * (seen.speed / PRIORS[nearest].speed),
      ratio: Math.max(1, PRIORS[level].ratio * (seen.ratio / PRIORS[nearest].ratio)),
    };
  }
}

function mix(old: number, seen: number, weight: number): number {
  return old + weight * (seen - old);
}
