import { PAGE_SIZE } from '../memory/guest-layout.ts';

/** Bytes that one lane keeps at most of what it last sent. */
const MAX_SIZE = 32 << 20;
/** What is written often is a small part of memory: the cache of a small guest is small. */
const GUEST_SHARE = 16;
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
  readonly #tags: Uint32Array;
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;

  /** @param lanePages pages that the lane has in all */
  constructor(lanePages: number) {
    const slots = Math.min(MAX_SIZE / PAGE_SIZE, Math.ceil(lanePages / GUEST_SHARE));
    this.#tags = new Uint32Array(Math.max(1, slots)).fill(EMPTY);
    // One allocation for all slots; untouched parts cost no memory until used.
    const buffer = new ArrayBuffer(this.#tags.length * PAGE_SIZE);
    this.#words = new Uint32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  has(pfn: number): boolean {
    return this.#tags[this.#slotOf(pfn)] === pfn;
  }

  put(pfn: number, page: Uint8Array): void {
    const slot = this.#slotOf(pfn);
    this.#tags[slot] = pfn;
    this.#bytes.set(page, slot * PAGE_SIZE);
  }

  drop(pfn: number): void {
    if (this.has(pfn)) this.#tags[this.#slotOf(pfn)] = EMPTY;
  }

  /**
   * Writes `page XOR cached content` to `out` and keeps `page` as the new content. False when too
   * much changed for a difference to pay: `out` is then undefined, and the cache holds the page all
   * the same.
   */
  difference(pfn: number, page: Uint32Array, out: Uint32Array): boolean {
    const base = this.#slotOf(pfn) * WORDS;
    let changed = 0;
    for (let i = 0; i < WORDS; i++) {
      const diff = page[i]! ^ this.#words[base + i]!;
      out[i] = diff;
      if (diff !== 0) changed++;
    }
    this.#words.set(page, base);
    return changed <= MAX_CHANGED_WORDS;
  }

  #slotOf(pfn: number): number {
    return pfn % this.#tags.length;
  }
}
