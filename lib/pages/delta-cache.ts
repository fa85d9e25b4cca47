import { PAGE_SIZE } from '../memory/guest-layout.ts';

/** Bytes that one channel keeps of what it last sent. */
const CACHE_SIZE = 32 << 20;
const SLOTS = CACHE_SIZE / PAGE_SIZE;
const EMPTY = 0xffffffff;
const WORDS = PAGE_SIZE / 4;
/** Above this many changed 4-byte words the page itself compresses as well as the difference. */
const MAX_CHANGED_WORDS = WORDS / 2;

/**
 * Content of pages as last sent, for pages that were sent more than once: what is written often is
 * written again, mostly with small changes. Direct mapped by pfn, so a sweep over all memory cannot
 * cost more than the fixed size.
 */
export class DeltaCache {
  readonly #tags = new Uint32Array(SLOTS).fill(EMPTY);
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;

  constructor() {
    // One allocation for all slots; untouched parts cost no memory until used.
    const buffer = new ArrayBuffer(CACHE_SIZE);
    this.#words = new Uint32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  has(pfn: number): boolean {
    return this.#tags[pfn % SLOTS] === pfn;
  }

  put(pfn: number, page: Uint8Array): void {
    const slot = pfn % SLOTS;
    this.#tags[slot] = pfn;
    this.#bytes.set(page, slot * PAGE_SIZE);
  }

  drop(pfn: number): void {
    if (this.has(pfn)) this.#tags[pfn % SLOTS] = EMPTY;
  }

  /**
   * Writes `page XOR cached content` to `out` and keeps `page` as the new content. False when too
   * much changed for a difference to pay: `out` is then undefined, and the cache holds the page all
   * the same.
   */
  difference(pfn: number, page: Uint32Array, out: Uint32Array): boolean {
    const base = (pfn % SLOTS) * WORDS;
    let changed = 0;
    for (let i = 0; i < WORDS; i++) {
      const diff = page[i]! ^ this.#words[base + i]!;
      out[i] = diff;
      if (diff !== 0) changed++;
    }
    this.#words.set(page, base);
    return changed <= MAX_CHANGED_WORDS;
  }
}
