import zlib from 'node:zlib';
import { CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE } from '../memory/guest-layout.ts';
import type { PageBatch } from '../wire/messages.ts';
import type { RingChunk } from './chunk-ring.ts';
import type { Level } from './compression.ts';
import { DedupeIndex } from './dedupe-index.ts';
import { DeltaCache } from './delta-cache.ts';
import { ENCODING } from './encoding.ts';
import type { PageHash } from './hash.ts';
import type { HashTable } from './hash-table.ts';
import type { KeptPage } from './kept-hashes.ts';
import { KeyedHashes } from './keyed-hashes.ts';

const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);
/** Differences are mostly zeros: a level above 1 finds nothing more in them. */
const DELTA_LEVEL = 1;
/** Differences of a batch; all lanes of a thread share it, since a batch is encoded in one go. */
const DELTA = new Uint32Array(CHUNK_SIZE / 4);
const DELTA_BYTES = new Uint8Array(DELTA.buffer);
const NOTHING = new Uint8Array(0);
/** What is known of pages before they are encoded; see `RingChunk`. */
export type Known = Pick<RingChunk, 'zeros' | 'hashes'>;

/** A batch ready to be sent: the message and both sections of the payload, either of them may be empty. */
export interface EncodedBatch {
  readonly message: PageBatch;
  readonly payload: readonly [raw: Uint8Array, delta: Uint8Array];
  /** Pages that carry content, in bytes: all but zero pages, and those that the receiver had kept. */
  readonly contentBytes: number;
}

/** The batch with its raw section compressed, unless that made it no smaller. */
export function withPacked(batch: EncodedBatch, packed: Uint8Array): EncodedBatch {
  const { message, payload } = batch;
  if (packed.length >= message.rawLength) return batch;
  return {
    ...batch,
    message: { ...message, rawCompressed: true, rawLength: packed.length },
    payload: [packed, payload[1]],
  };
}

/**
 * Turns pages of a chunk into a page batch and remembers what was sent. One per lane; all its
 * tables are private to it.
 */
export class BatchEncoder {
  readonly #hash: PageHash;
  readonly #table: HashTable;
  readonly #keyed: KeyedHashes;
  readonly #zeroHash: bigint;
  readonly #cache: DeltaCache;
  readonly #dedupe: DedupeIndex;

  /** @param keptSecret what the receiver hashes a kept copy with, if it has one */
  constructor(hash: PageHash, table: HashTable, keptSecret?: Uint8Array) {
    this.#hash = hash;
    this.#table = table;
    this.#keyed = new KeyedHashes(table, keptSecret);
    this.#cache = new DeltaCache(table.pages);
    this.#dedupe = new DedupeIndex(table.pages);
    this.#zeroHash = hash.of(ZERO_PAGE);
  }

  /** The receiver has kept these: as good as sent, unless something was sent for them since. */
  kept(pages: readonly KeptPage[]): void {
    for (const { pfn, hash, keyed } of pages) {
      if (this.#table.get(pfn) !== 0n) continue;
      this.#table.set(pfn, hash);
      this.#keyed.set(pfn, keyed);
    }
  }

  /**
   * Encodes the pages at `offsets` (rising, 0 to 255) of the chunk. `pages` holds the chunk, page
   * *o* at byte o × 4096; raw pages are moved together inside it, and the payload may be a view of
   * it: it must stay untouched until the batch is acknowledged. Its raw section is left as it is, for
   * whoever compresses it (`withPacked`). For level 0, which does not, neither copies nor differences are
   * looked for: the link is then faster than they are. With
   * time to `spare` every page gets its keyed hash at once, so that the first time that it comes
   * again is enough to leave it out; without, only a page that was seen before gets one. With what
   * is `known` of the pages, they are not hashed again.
   */
  encode(
    round: number,
    chunk: number,
    offsets: readonly number[],
    pages: Buffer,
    level: Level,
    spare: boolean,
    known?: Known,
  ): EncodedBatch {
    const encodings = Buffer.allocUnsafe(offsets.length);
    const hashes = new BigUint64Array(offsets.length);
    const firstPfn = chunk * CHUNK_PAGES;
    const copyOf: number[] = [];
    const seek = level !== 0;
    let rawPages = 0;
    let deltaPages = 0;
    let emptyPages = 0;

    for (let i = 0; i < offsets.length; i++) {
      const offset = offsets[i]!;
      const at = offset * PAGE_SIZE;
      const pfn = firstPfn + offset;
      if (this.#isZero(offset, pages, known)) {
        hashes[i] = this.#zeroHash;
        encodings[i] = ENCODING.zero;
        this.#table.set(pfn, this.#zeroHash);
        this.#keyed.forget(pfn);
        this.#cache.drop(pfn);
        emptyPages++;
        continue;
      }
      if (known) hashes[i] = known.hashes[offset]!;
      else this.#hash.pageInto(hashes, i, pages, at);
      const twin = this.#twin(pfn, hashes, i, pages, at, seek, spare);
      if (twin === pfn) {
        encodings[i] = ENCODING.same;
        if (round === 1) emptyPages++; // never sent before
      } else if (twin !== undefined) {
        this.#cache.drop(pfn);
        encodings[i] = ENCODING.copy;
        copyOf.push(twin);
      } else if (this.#differs(pfn, pages, at, seek, round, deltaPages)) {
        encodings[i] = ENCODING.delta;
        deltaPages++;
      } else {
        encodings[i] = ENCODING.raw;
        if (at !== rawPages * PAGE_SIZE) pages.copyWithin(rawPages * PAGE_SIZE, at, at + PAGE_SIZE);
        rawPages++;
      }
    }

    const raw = pages.subarray(0, rawPages * PAGE_SIZE);
    const deltaSection =
      deltaPages === 0
        ? NOTHING
        : compress(DELTA_BYTES.subarray(0, deltaPages * PAGE_SIZE), DELTA_LEVEL);
    return {
      message: {
        round,
        chunk,
        offsetDelta: offsets.map((offset, i) => (i === 0 ? offset : offset - offsets[i - 1]!)),
        encodings,
        hashes: new Uint8Array(hashes.buffer),
        copyOf,
        rawCompressed: false,
        rawLength: raw.length,
        deltaLength: deltaSection.length,
      },
      payload: [raw, deltaSection],
      contentBytes: (offsets.length - emptyPages) * PAGE_SIZE,
    };
  }

  /** A page of zeros: named so, or found to be one, where its hash is known only if that says so. */
  #isZero(offset: number, pages: Buffer, known: Known | undefined): boolean {
    if (known?.zeros.has(offset)) return true;
    if (known && known.hashes[offset] !== this.#zeroHash) return false;
    const at = offset * PAGE_SIZE;
    return pages.compare(ZERO_PAGE, 0, PAGE_SIZE, at, at + PAGE_SIZE) === 0;
  }

  /**
   * A page that the receiver is proved to have with the 4096 bytes at `at`, whose hash is the i-th: this
   * one itself, or another of the lane. Pages whose xxh64 is alike are not yet equal, since the guest may
   * have made them so: their keyed hashes decide, and where there was none it is made now, for the next time.
   */
  #twin(
    pfn: number,
    hashes: BigUint64Array,
    i: number,
    pages: Buffer,
    at: number,
    seek: boolean,
    spare: boolean,
  ): number | undefined {
    const alike = this.#alike(pfn, hashes, i, seek);
    this.#table.setRun(pfn, 1, hashes, i);
    if (alike === undefined && !spare) {
      this.#keyed.forget(pfn);
    } else {
      const keyed = this.#keyed.of(pages.subarray(at, at + PAGE_SIZE));
      const proved = alike !== undefined && this.#keyed.has(alike, keyed);
      this.#keyed.set(pfn, keyed);
      if (proved) return alike;
    }
    if (seek) this.#dedupe.remember(hashes[i]!, pfn);
    return undefined;
  }

  /** This page or an earlier one of the lane, if it was last sent with the i-th hash. */
  #alike(pfn: number, hashes: BigUint64Array, i: number, seek: boolean): number | undefined {
    if (this.#table.holds(pfn, hashes, i)) return pfn;
    const found = seek ? this.#dedupe.find(hashes[i]!) : undefined;
    return found !== undefined && this.#table.holds(found, hashes, i) ? found : undefined;
  }

  /** True when the page goes as a difference, which then stands in slot `index`. */
  #differs(
    pfn: number,
    pages: Buffer,
    at: number,
    seek: boolean,
    round: number,
    index: number,
  ): boolean {
    if (seek && this.#cache.has(pfn)) {
      const words = PAGE_SIZE / 4;
      const view = new Uint32Array(pages.buffer, pages.byteOffset + at, words);
      return this.#cache.difference(pfn, view, DELTA.subarray(index * words, (index + 1) * words));
    }
    // The first pass sends everything once: what comes again is worth remembering.
    if (round > 1) this.#cache.put(pfn, pages.subarray(at, at + PAGE_SIZE));
    return false;
  }
}

function compress(bytes: Uint8Array, level: number): Buffer {
  return zlib.zstdCompressSync(bytes, {
    params: { [zlib.constants.ZSTD_c_compressionLevel]: level },
  });
}
