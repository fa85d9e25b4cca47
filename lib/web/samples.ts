import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { MigrationView } from '../migration/view.ts';
import { enforcedSuspendMs } from '../precopy/stats.ts';

/** A migration at one moment, as the time axis shows it; null where nothing is known. */
export interface Sample {
  /** ms since it began. */
  readonly at: number;
  /** Bytes that the running round, or a suspension of a guest that is held, still has to send. */
  readonly left: number | null;
  /** Bytes per second: that the guest makes dirty, and on the wire. */
  readonly dirty: number | null;
  readonly wire: number;
  /** Forecast of the suspension, and the limit that is enforced on it, ms. */
  readonly low: number | null;
  readonly expected: number | null;
  readonly high: number | null;
  readonly limit: number | null;
}

/** More than a chart has pixels for in one line; an hour has a sample every 8 s or so. */
export const MAX_SAMPLES = 512;
/** Between samples of a migration that has just begun, ms. */
const FIRST_STEP_MS = 500;

/**
 * What a migration was like from its beginning, in bounded room however long it runs: when there is no
 * room any more, two neighbours become one and the steps twice as long.
 */
export class Samples {
  #stepMs = FIRST_STEP_MS;
  #all: Sample[] = [];

  /** Those of `all`, which may be another's. */
  static of(all: readonly Sample[]): Samples {
    const samples = new Samples();
    for (const sample of all) samples.add(sample);
    return samples;
  }

  get all(): readonly Sample[] {
    return this.#all;
  }

  /** A clock that went back is another run of the agent: what was before does not go with it. */
  add(sample: Sample): void {
    if (sample.at < (this.#all.at(-1)?.at ?? 0)) this.#all = [];
    const last = this.#all.at(-1);
    if (last !== undefined && this.#step(last) === this.#step(sample))
      this.#all[this.#all.length - 1] = merge(last, sample);
    else this.#all.push(sample);
    while (this.#all.length > MAX_SAMPLES) this.#widen();
  }

  #widen(): void {
    this.#stepMs *= 2;
    const fine = this.#all;
    this.#all = [];
    for (const sample of fine) this.add(sample);
  }

  #step({ at }: Sample): number {
    return Math.floor(at / this.#stepMs);
  }
}

export function sampleOf(view: MigrationView): Sample {
  const { elapsedMs, round, roundPages, roundSent, dirtyPages, dirtyRate, hold } = view;
  const pages = hold?.ready ? dirtyPages : roundPages - roundSent;
  const limit = view.limits && enforcedSuspendMs(view.limits);
  return {
    at: elapsedMs,
    left: round > 0 && pages >= 0 ? pages * PAGE_SIZE : null,
    dirty: dirtyRate >= 0 ? dirtyRate * PAGE_SIZE : null,
    wire: view.wireRate,
    low: view.estimate?.low ?? null,
    expected: view.estimate?.expected ?? null,
    high: view.estimate?.high ?? null,
    limit: limit ?? null,
  };
}

/** The later one holds; the band has to span both. */
function merge(early: Sample, late: Sample): Sample {
  return {
    ...late,
    low: extreme(Math.min, early.low, late.low),
    high: extreme(Math.max, early.high, late.high),
  };
}

function extreme(
  of: (a: number, b: number) => number,
  a: number | null,
  b: number | null,
): number | null {
  return a === null || b === null ? (a ?? b) : of(a, b);
}
