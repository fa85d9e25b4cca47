import xxhash from 'xxhash-wasm';

const wasm = await xxhash();

/** Seed of the second hash of a page: any value that differs from the first seed will do. */
const SECOND_SEED_MASK = 0x9e3779b97f4a7c15n;

/** xxh64 under the seed of one migration. */
export class PageHash {
  readonly seed: bigint;
  readonly #secondSeed: bigint;

  constructor(seed: bigint) {
    this.seed = seed;
    this.#secondSeed = seed ^ SECOND_SEED_MASK;
  }

  /** Hash of a page, or of any bytes that fit in memory twice (they are copied into the hasher). */
  of(bytes: Uint8Array): bigint {
    return wasm.h64Raw(bytes, this.seed);
  }

  /** Independent second hash: together with `of` 128 bits, enough to call two pages equal. */
  second(bytes: Uint8Array): bigint {
    return wasm.h64Raw(bytes, this.#secondSeed);
  }

  /** Hash of bytes of any length in steps of 1 MiB, with constant memory. */
  ofLong(bytes: Uint8Array): bigint {
    const step = 1 << 20;
    const stream = wasm.create64(this.seed);
    for (let at = 0; at < bytes.length; at += step) stream.update(bytes.subarray(at, at + step));
    return stream.digest();
  }
}
