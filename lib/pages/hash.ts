import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import xxhash from 'xxhash-wasm';
import { PAGE_SIZE } from '../memory/guest-layout.ts';

/**
 * An event loop that nothing else keeps alive would end while WebAssembly compiles, and Node then
 * stops the thread until V8 has no background work for any thread of the process. That work may wait
 * for this very thread: 64 workers that start together stand still for ever.
 */
const awake = setInterval(() => {}, 1000);
const wasm = await xxhash();
clearInterval(awake);

/** Every Node has it; to TypeScript it is one of the browser's names. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: object };
};

/** The same code, for memory of our own choice: the package gives no access to its memory. */
const PACKAGE = path.dirname(path.dirname(createRequire(import.meta.url).resolve('xxhash-wasm')));
const MODULE = new WebAssembly.Module(readFileSync(path.join(PACKAGE, 'workerd/xxhash.wasm')));
/** Of WebAssembly's memory. The first one is left to the code. */
const WASM_PAGE = 65_536;

interface Hasher {
  readonly mem: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  xxh64(at: number, length: number, seed: bigint): bigint;
}
const hashers = new WeakMap<ArrayBufferLike, Hasher>();

/**
 * Memory in which a PageHash hashes bytes where they lie. Each has an instance of the hasher, and an
 * address space of some gigabytes: for buffers that last.
 */
export function hashableMemory(bytes: number): Buffer {
  const hasher = new WebAssembly.Instance(MODULE).exports as unknown as Hasher;
  hasher.mem.grow(Math.ceil(bytes / WASM_PAGE));
  const { buffer } = hasher.mem;
  hashers.set(buffer, hasher);
  return Buffer.from(buffer, WASM_PAGE, bytes);
}

/**
 * xxh64 under the seed of one migration: tells of accidents on the way and in memory. It is no proof
 * that two pages of a guest are equal: a process in it can make pages that differ and hash alike for
 * one seed in two, without knowing it.
 */
export class PageHash {
  readonly seed: bigint;
  /** The memory of the last page, and its hasher if it has one. */
  #buffer: ArrayBufferLike | undefined;
  #hasher: Hasher | undefined;

  constructor(seed: bigint) {
    this.seed = seed;
  }

  /** Hash of a page, or of any bytes that fit in memory twice: they are copied unless their memory is hashable. */
  of(bytes: Uint8Array): bigint {
    const hasher = hashers.get(bytes.buffer);
    if (hasher === undefined) return wasm.h64Raw(bytes, this.seed);
    return BigInt.asUintN(64, hasher.xxh64(bytes.byteOffset, bytes.length, this.seed));
  }

  /**
   * Hash of the page at byte `at` of `bytes`, into the i-th of `hashes`. Neither a view nor a number is
   * made that the garbage collector would have to free.
   */
  pageInto(hashes: BigUint64Array, i: number, bytes: Uint8Array, at: number): void {
    if (bytes.buffer !== this.#buffer) {
      this.#buffer = bytes.buffer;
      this.#hasher = hashers.get(bytes.buffer);
    }
    const hasher = this.#hasher;
    hashes[i] =
      hasher === undefined
        ? wasm.h64Raw(bytes.subarray(at, at + PAGE_SIZE), this.seed)
        : hasher.xxh64(bytes.byteOffset + at, PAGE_SIZE, this.seed);
  }

  /** Hash of bytes of any length in steps of 1 MiB, with constant memory. */
  ofLong(bytes: Uint8Array): bigint {
    const step = 1 << 20;
    const stream = wasm.create64(this.seed);
    for (let at = 0; at < bytes.length; at += step) stream.update(bytes.subarray(at, at + step));
    return stream.digest();
  }
}
