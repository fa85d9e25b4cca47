import assert from 'node:assert/strict';
import { CHUNK_PAGES, type GuestLayout } from './guest-layout.ts';

/** A run of consecutive pages. */
export interface PageRun {
  readonly firstPfn: number;
  readonly pages: number;
}

/**
 * A set of pages as a bitmap, one bit per pfn, least significant bit first, in memory that threads
 * may share. 32 KiB per GiB of guest. Chunk-sized groups are 32 whole bytes, so threads that own
 * different chunks never touch the same byte.
 */
export class PageSet {
  readonly pfnEnd: number;
  readonly buffer: SharedArrayBuffer;
  readonly #words: Uint32Array;

  /** An empty set for pfns below `pfnEnd`, or a view of the buffer of another thread's set. */
  constructor(pfnEnd: number, buffer?: SharedArrayBuffer) {
    const bytes = Math.ceil(pfnEnd / CHUNK_PAGES) * (CHUNK_PAGES / 8);
    this.pfnEnd = pfnEnd;
    this.buffer = buffer ?? new SharedArrayBuffer(bytes);
    assert.equal(this.buffer.byteLength, bytes, 'page set buffer has the size of its guest');
    this.#words = new Uint32Array(this.buffer);
  }

  /** The bitmap itself, for harvesting a dirty log into it or sending it on. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.buffer);
  }

  has(pfn: number): boolean {
    return ((this.#words[pfn >>> 5]! >>> (pfn & 31)) & 1) === 1;
  }

  add(pfn: number): void {
    assert(pfn < this.pfnEnd);
    this.#words[pfn >>> 5]! |= 1 << (pfn & 31);
  }

  delete(pfn: number): void {
    this.#words[pfn >>> 5]! &= ~(1 << (pfn & 31));
  }

  clear(): void {
    this.#words.fill(0);
  }

  /** Adds every page of the layout. */
  addAll(layout: GuestLayout): void {
    for (const region of layout.regions) this.addRun(region);
  }

  /** Adds a run while another thread may take pages out with `takeAll`. */
  addShared({ firstPfn, pages }: PageRun): void {
    for (let pfn = firstPfn; pfn < firstPfn + pages; ) {
      const bits = Math.min(32 - (pfn & 31), firstPfn + pages - pfn);
      const mask = bits === 32 ? 0xffffffff : ((1 << bits) - 1) << (pfn & 31);
      Atomics.or(this.#words, pfn >>> 5, mask);
      pfn += bits;
    }
  }

  /** Moves all pages into a set of their own, while others may add some; undefined when there are none. */
  takeAll(): PageSet | undefined {
    let taken: PageSet | undefined;
    for (let i = 0; i < this.#words.length; i++) {
      if (Atomics.load(this.#words, i) === 0) continue;
      taken ??= new PageSet(this.pfnEnd);
      taken.#words[i] = Atomics.exchange(this.#words, i, 0);
    }
    return taken;
  }

  /** Adds every page of a set of the same guest. */
  addSet(other: PageSet): void {
    assert.equal(other.pfnEnd, this.pfnEnd, 'both sets are of one guest');
    for (let i = 0; i < this.#words.length; i++) this.#words[i]! |= other.#words[i]!;
  }

  addRun(run: PageRun): void {
    const end = run.firstPfn + run.pages;
    assert(end <= this.pfnEnd);
    for (let pfn = run.firstPfn; pfn < end; ) {
      if ((pfn & 31) === 0 && end - pfn >= 32) {
        this.#words[pfn >>> 5] = 0xffffffff;
        pfn += 32;
      } else {
        this.add(pfn++);
      }
    }
  }

  count(): number {
    let pages = 0;
    for (const word of this.#words) pages += bitsOf(word);
    return pages;
  }

  /** True when a page of the chunk is in the set. */
  hasChunk(chunk: number): boolean {
    const first = chunk * (CHUNK_PAGES / 32);
    for (let i = 0; i < CHUNK_PAGES / 32; i++) if (this.#words[first + i] !== 0) return true;
    return false;
  }

  clearChunk(chunk: number): void {
    const first = chunk * (CHUNK_PAGES / 32);
    this.#words.fill(0, first, first + CHUNK_PAGES / 32);
  }

  /** The set as runs in rising order. */
  *runs(): Generator<PageRun> {
    let first = -1;
    for (let i = 0; i < this.#words.length; i++) {
      const word = this.#words[i]!;
      if (word === 0 && first === -1) continue;
      if (word === 0xffffffff && first !== -1) continue;
      for (let bit = 0; bit < 32; bit++) {
        const inSet = ((word >>> bit) & 1) === 1;
        const pfn = i * 32 + bit;
        if (inSet && first === -1) first = pfn;
        if (!inSet && first !== -1) {
          yield { firstPfn: first, pages: pfn - first };
          first = -1;
        }
      }
    }
    if (first !== -1) yield { firstPfn: first, pages: this.#words.length * 32 - first };
  }
}

function bitsOf(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Cuts runs at chunk borders: a run within one chunk is within one region. */
export function* runsWithinChunks(runs: Iterable<PageRun>): Generator<PageRun> {
  for (const { firstPfn, pages } of runs) {
    const end = firstPfn + pages;
    for (let pfn = firstPfn; pfn < end; ) {
      const next = Math.min(end, (Math.floor(pfn / CHUNK_PAGES) + 1) * CHUNK_PAGES);
      yield { firstPfn: pfn, pages: next - pfn };
      pfn = next;
    }
  }
}
