import zlib from 'node:zlib';
import { CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE } from '../memory/guest-layout.ts';
import type { PageBatch } from '../wire/messages.ts';
import type { Level } from './compression.ts';
import { DedupeIndex } from './dedupe-index.ts';
import { DeltaCache } from './delta-cache.ts';
import { ENCODING } from './encoding.ts';
import type { PageHash } from './hash.ts';
import type { HashTable } from './hash-table.ts';

const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);
/** Differences are mostly zeros: a level above 1 finds nothing more in them. */
const DELTA_LEVEL = 1;

/** A batch ready to be sent: the message and the payload in one or two pieces. */
export interface EncodedBatch {
  readonly message: PageBatch;
  readonly payload: readonly Uint8Array[];
  /** Pages that carry content, in bytes: all but the zero pages. */
  readonly contentBytes: number;
  readonly rawBytes: number;
  readonly compressSeconds: number;
}

/**
 * Turns pages of a chunk into a page batch and remembers what was sent. One per channel; all its
 * tables are private to it.
 */
export class BatchEncoder {
  readonly #hash: PageHash;
  readonly #table: HashTable;
  readonly #zeroHash: bigint;
  readonly #cache = new DeltaCache();
  readonly #dedupe = new DedupeIndex();
  readonly #delta = new Uint32Array(CHUNK_SIZE / 4);
  readonly #deltaBytes = new Uint8Array(this.#delta.buffer);

  constructor(hash: PageHash, table: HashTable) {
    this.#hash = hash;
    this.#table = table;
    this.#zeroHash = hash.of(ZERO_PAGE);
  }

  /**
   * Encodes the pages at `offsets` (rising, 0 to 255) of the chunk. `pages` holds the chunk, page
   * *o* at byte o × 4096; raw pages are moved together inside it, and the payload may be a view of
   * it: it must stay untouched until the batch is acknowledged. Level 0 leaves raw pages as they
   * are, and looks for neither copies nor differences: the link is then faster than they are.
   */
  encode(
    round: number,
    chunk: number,
    offsets: readonly number[],
    pages: Buffer,
    level: Level,
  ): EncodedBatch {
    const encodings = Buffer.allocUnsafe(offsets.length);
    const hashes = new BigUint64Array(offsets.length);
    const copyOf: number[] = [];
    const seek = level !== 0;
    let rawPages = 0;
    let deltaPages = 0;
    let zeroPages = 0;

    for (let i = 0; i < offsets.length; i++) {
      const at = offsets[i]! * PAGE_SIZE;
      const pfn = chunk * CHUNK_PAGES + offsets[i]!;
      if (pages.compare(ZERO_PAGE, 0, PAGE_SIZE, at, at + PAGE_SIZE) === 0) {
        hashes[i] = this.#zeroHash;
        encodings[i] = ENCODING.zero;
        this.#table.set(pfn, this.#zeroHash);
        this.#cache.drop(pfn);
        zeroPages++;
        continue;
      }
      const page = pages.subarray(at, at + PAGE_SIZE);
      const hash = this.#hash.of(page);
      hashes[i] = hash;
      if (this.#table.get(pfn) === hash) {
        encodings[i] = ENCODING.same;
        continue;
      }
      const twin = seek ? this.#twin(pfn, hash, page) : undefined;
      this.#table.set(pfn, hash);
      if (twin !== undefined) {
        this.#cache.drop(pfn);
        encodings[i] = ENCODING.copy;
        copyOf.push(twin);
      } else if (this.#differs(pfn, page, seek, round, deltaPages)) {
        encodings[i] = ENCODING.delta;
        deltaPages++;
      } else {
        encodings[i] = ENCODING.raw;
        if (at !== rawPages * PAGE_SIZE) pages.copyWithin(rawPages * PAGE_SIZE, at, at + PAGE_SIZE);
        rawPages++;
      }
    }

    const started = performance.now();
    const rawBytes = rawPages * PAGE_SIZE;
    const raw = pages.subarray(0, rawBytes);
    let rawSection: Uint8Array = raw;
    if (level !== 0 && rawBytes > 0) {
      const packed = compress(raw, level);
      if (packed.length < rawBytes) rawSection = packed;
    }
    const deltaSection =
      deltaPages === 0
        ? new Uint8Array(0)
        : compress(this.#deltaBytes.subarray(0, deltaPages * PAGE_SIZE), DELTA_LEVEL);
    return {
      message: {
        round,
        chunk,
        offsetDelta: offsets.map((offset, i) => (i === 0 ? offset : offset - offsets[i - 1]!)),
        encodings,
        hashes: new Uint8Array(hashes.buffer),
        copyOf,
        rawCompressed: rawSection !== raw,
        rawLength: rawSection.length,
        deltaLength: deltaSection.length,
      },
      payload: [rawSection, deltaSection].filter((section) => section.length > 0),
      contentBytes: (offsets.length - zeroPages) * PAGE_SIZE,
      rawBytes,
      compressSeconds: (performance.now() - started) / 1000,
    };
  }

  /** An earlier page of this channel that is known to hold the same 4096 bytes now. */
  #twin(pfn: number, hash: bigint, page: Uint8Array): number | undefined {
    const second = this.#hash.second(page);
    const twin = this.#dedupe.find(hash, second);
    if (twin !== undefined && twin !== pfn && this.#table.get(twin) === hash) return twin;
    this.#dedupe.remember(hash, second, pfn);
    return undefined;
  }

  /** True when the page goes as a difference, which then stands in slot `index`. */
  #differs(pfn: number, page: Buffer, seek: boolean, round: number, index: number): boolean {
    if (seek && this.#cache.has(pfn)) {
      const words = PAGE_SIZE / 4;
      const view = new Uint32Array(page.buffer, page.byteOffset, words);
      return this.#cache.difference(
        pfn,
        view,
        this.#delta.subarray(index * words, (index + 1) * words),
      );
    }
    // The first pass sends everything once: what comes again is worth remembering.
    if (round > 1) this.#cache.put(pfn, page);
    return false;
  }
}

function compress(bytes: Uint8Array, level: number): Buffer {
  return zlib.zstdCompressSync(bytes, {
    params: { [zlib.constants.ZSTD_c_compressionLevel]: level },
  });
}
