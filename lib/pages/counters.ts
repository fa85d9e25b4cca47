import { LEVEL_NAMES } from './compression.ts';
import { ENCODING_NAMES } from './encoding.ts';

/** Pages by how they travelled. */
export interface EncodingCounts {
  readonly zero: number;
  readonly raw: number;
  readonly same: number;
  readonly delta: number;
  readonly copy: number;
}

/** Cumulative counts of one lane, in the order in which they stand in shared memory. */
const FIELDS = [
  'pages',
  ...ENCODING_NAMES,
  'wireBytes',
  'rawBytes',
  'rawWireBytes',
  'ackedContentBytes',
  'heardBytes',
  'burstBytes',
  'burstMs',
  ...LEVEL_NAMES,
] as const;

type Field = (typeof FIELDS)[number];
const INDEX = new Map<string, number>(FIELDS.map((name, i) => [name, i]));

/** Bytes of shared memory for one lane's counters. */
export const COUNTERS_SIZE = FIELDS.length * 8;

/**
 * Counters that one worker writes and the main thread reads at its leisure: no message, no wake-up
 * per batch. Aligned 8-byte loads and stores do not tear on the machines Node runs on.
 */
export class Counters {
  readonly #values: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#values = new Float64Array(buffer);
  }

  add(field: Field, amount: number): void {
    this.#values[INDEX.get(field)!]! += amount;
  }

  get(field: Field): number {
    return this.#values[INDEX.get(field)!]!;
  }
}

/** The sum over all lanes. */
export interface LaneTotals {
  /** Pages sent (sender) or written (receiver), zero pages included. */
  readonly pages: number;
  readonly encodings: EncodingCounts;
  readonly wireBytes: number;
  /** Raw sections before and after compression. */
  readonly rawBytes: number;
  readonly rawWireBytes: number;
  /** Guest bytes acknowledged in pages that are not zero. */
  readonly ackedContentBytes: number;
  /** Batches with a raw section by compression level. */
  readonly levels: Readonly<Record<string, number>>;
}

export function sumCounters(lanes: readonly Counters[]): LaneTotals {
  const sum = (field: Field) => lanes.reduce((total, c) => total + c.get(field), 0);
  return {
    pages: sum('pages'),
    encodings: {
      zero: sum('zero'),
      raw: sum('raw'),
      same: sum('same'),
      delta: sum('delta'),
      copy: sum('copy'),
    },
    wireBytes: sum('wireBytes'),
    rawBytes: sum('rawBytes'),
    rawWireBytes: sum('rawWireBytes'),
    ackedContentBytes: sum('ackedContentBytes'),
    levels: Object.fromEntries(LEVEL_NAMES.map((name) => [name, sum(name)])),
  };
}

/** What happened between two readings. */
export function totalsSince(now: LaneTotals, before: LaneTotals): LaneTotals {
  return {
    pages: now.pages - before.pages,
    encodings: {
      zero: now.encodings.zero - before.encodings.zero,
      raw: now.encodings.raw - before.encodings.raw,
      same: now.encodings.same - before.encodings.same,
      delta: now.encodings.delta - before.encodings.delta,
      copy: now.encodings.copy - before.encodings.copy,
    },
    wireBytes: now.wireBytes - before.wireBytes,
    rawBytes: now.rawBytes - before.rawBytes,
    rawWireBytes: now.rawWireBytes - before.rawWireBytes,
    ackedContentBytes: now.ackedContentBytes - before.ackedContentBytes,
    levels: Object.fromEntries(
      LEVEL_NAMES.map((name) => [name, (now.levels[name] ?? 0) - (before.levels[name] ?? 0)]),
    ),
  };
}
