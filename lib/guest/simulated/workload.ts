import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { hash3, type Random } from './random.ts';

/** What the vCPUs write. */
export const WORKLOADS = [
  'idle',
  'uniform',
  'hot-set',
  'sweep',
  'phased',
  'never-converging',
] as const;
export type WorkloadName = (typeof WORKLOADS)[number];

export interface WorkloadSettings {
  readonly workload: WorkloadName;
  /** Pages written per second by all vCPUs; `full`: as fast as they can. */
  readonly rate: number | 'full';
  /** Bytes that are written to, over all vCPUs; clipped to what there is. */
  readonly workingSet: number;
  /** Percent of the writes that change a page in a few places; the others rewrite it whole. */
  readonly inPlace: number;
  /** phased: milliseconds of guest time from one busy phase to the next; half of it is quiet. */
  readonly period: number;
}

const MIB = 2 ** 20;
const ALL = Number.MAX_SAFE_INTEGER;
const PHASED_RATE = 10_000;

/** An idle guest still has timers and a journal: a trickle into a few pages. */
const DEFAULTS: Record<WorkloadName, Pick<WorkloadSettings, 'rate' | 'workingSet'>> = {
  idle: { rate: 50, workingSet: MIB / 4 },
  uniform: { rate: 2000, workingSet: ALL },
  'hot-set': { rate: 5000, workingSet: 64 * MIB },
  sweep: { rate: 5000, workingSet: ALL },
  phased: { rate: PHASED_RATE, workingSet: 64 * MIB },
  'never-converging': { rate: 'full', workingSet: 256 * MIB },
};

/** The hot set gets nine writes of ten, the rest of memory the tenth. */
const ELSEWHERE_ONE_IN = 10;
/** A quiet phase writes one page for this many of a busy one. */
const QUIET_DIVISOR = 50;

/** The settings of a workload with what was left out filled in. */
export function workloadSettings(
  workload: string,
  chosen: Partial<Omit<WorkloadSettings, 'workload'>> = {},
): WorkloadSettings {
  if (!isWorkload(workload))
    throw new GodwitError(
      'bad-option',
      `there is no workload "${workload}"; there are ${WORKLOADS.join(', ')}`,
    );
  return { workload, inPlace: 70, period: 4000, ...DEFAULTS[workload], ...chosen };
}

/** The pages that one vCPU writes, and in which order. No two vCPUs share a slice. */
export class WritePlan {
  readonly #settings: WorkloadSettings;
  readonly #first: number;
  readonly #pages: number;
  readonly #hotFirst: number;
  readonly #hotPages: number;
  /** Next page of a sweep, counted from the beginning of the working set. */
  position = 0;

  constructor(settings: WorkloadSettings, slice: Slice, vcpus: number, seed: number) {
    this.#settings = settings;
    this.#first = slice.first;
    this.#pages = slice.pages;
    const share = Math.ceil(settings.workingSet / PAGE_SIZE / vcpus);
    this.#hotPages = Math.max(1, Math.min(share, slice.pages));
    const room = slice.pages - this.#hotPages + 1;
    this.#hotFirst = slice.first + (hash3(seed, slice.first, room) % room);
  }

  /** The pfn of the next write. */
  next(random: Random): number {
    const { workload } = this.#settings;
    if (workload === 'sweep') {
      this.position = (this.position + 1) % this.#hotPages;
      return this.#hotFirst + this.position;
    }
    const hot = workload === 'hot-set' || workload === 'phased';
    if (hot && random.below(ELSEWHERE_ONE_IN) === 0) return this.#first + random.below(this.#pages);
    return this.#hotFirst + random.below(this.#hotPages);
  }

  /** Pages per second of all vCPUs after `ranMs` of guest time; Infinity at full speed. */
  rateAt(ranMs: number): number {
    const { workload, rate, period } = this.#settings;
    const busy = rate === 'full' ? Number.POSITIVE_INFINITY : rate;
    if (workload !== 'phased' || ranMs % period < period / 2) return busy;
    return (rate === 'full' ? PHASED_RATE : rate) / QUIET_DIVISOR;
  }
}

/** A vCPU's own piece of guest memory. */
export interface Slice {
  readonly first: number;
  readonly pages: number;
}

/** Cuts the pages before `end` into one slice per vCPU, at chunk boundaries given by `unit`. */
export function sliceOf(index: number, vcpus: number, end: number, unit: number): Slice {
  const units = Math.ceil(end / unit);
  const first = Math.floor((units * index) / vcpus) * unit;
  const stop = Math.min(end, Math.floor((units * (index + 1)) / vcpus) * unit);
  return { first, pages: stop - first };
}

function isWorkload(text: string): text is WorkloadName {
  return (WORKLOADS as readonly string[]).includes(text);
}
