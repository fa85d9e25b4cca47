/**
 * What a protobuf scalar is in this program and in protobufjs. Both functions throw a TypeError
 * whose message continues the name of the field.
 */
export interface Scalar {
  toWire(value: unknown): unknown;
  fromWire(value: unknown): unknown;
}

/** protobufjs gives and takes 64 bits as two halves. */
interface Halves {
  readonly low: number;
  readonly high: number;
}

const UINT32_MAX = 2 ** 32 - 1;
const UINT64_MAX = 2n ** 64n - 1n;
const TWO_32 = 2 ** 32;

/** The scalar types that godwit.proto uses. */
export const SCALARS: Readonly<Record<string, Scalar>> = {
  uint32: {
    toWire: (value) => integer(value, UINT32_MAX, 'an unsigned 32-bit integer'),
    fromWire: asIs,
  },
  // Epochs and cookies: plain numbers, so only those that a number holds exactly.
  uint64: {
    toWire: (value) => integer(value, Number.MAX_SAFE_INTEGER, 'an integer from 0 to 2^53 - 1'),
    fromWire: (value) => {
      const { low, high } = value as Halves;
      const number = (high >>> 0) * TWO_32 + (low >>> 0);
      return integer(number, Number.MAX_SAFE_INTEGER, 'an integer from 0 to 2^53 - 1');
    },
  },
  // Hashes and seeds: all 64 bits count.
  fixed64: {
    toWire: (value): Halves => {
      demand(
        typeof value === 'bigint' && value >= 0n && value <= UINT64_MAX,
        value,
        'a 64-bit bigint',
      );
      return { low: Number(value & 0xffffffffn), high: Number(value >> 32n) };
    },
    fromWire: (value) => {
      const { low, high } = value as Halves;
      return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    },
  },
  double: { toWire: finite, fromWire: finite },
  bool: {
    toWire: (value) => {
      demand(typeof value === 'boolean', value, 'a boolean');
      return value;
    },
    fromWire: asIs,
  },
  string: {
    toWire: (value) => {
      demand(typeof value === 'string' && value.isWellFormed(), value, 'a well-formed string');
      return value;
    },
    fromWire: asIs, // protobufjs refuses what is not UTF-8
  },
  bytes: {
    toWire: (value) => {
      demand(value instanceof Uint8Array, value, 'a Uint8Array');
      return value;
    },
    // A copy: a secret or a hash list may be kept after the frame's buffer is used again.
    fromWire: (value) => new Uint8Array(value as Uint8Array),
  },
};

/** Throws unless the value is what it should be. */
export function demand(holds: boolean, value: unknown, what: string): asserts holds {
  if (!holds) throw new TypeError(`is not ${what}: ${shown(value)}`);
}

function integer(value: unknown, max: number, what: string): number {
  demand(
    typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max,
    value,
    what,
  );
  return value;
}

function finite(value: unknown): number {
  demand(typeof value === 'number' && Number.isFinite(value), value, 'a finite number');
  return value;
}

function asIs(value: unknown): unknown {
  return value;
}

function shown(value: unknown): string {
  return ['number', 'bigint', 'boolean', 'undefined'].includes(typeof value)
    ? String(value)
    : `a value of type ${value === null ? 'null' : typeof value}`;
}
