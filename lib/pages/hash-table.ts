import { CHUNK_PAGES, type GuestLayout } from '../memory/guest-layout.ts';
import type { PageHash } from './hash.ts';

/**
 * The hash of every page of one lane as last sent (sender) or written (receiver): 8 bytes a
 * page, private to one worker. 0 stands for a page that was never sent. The owned chunks stand one
 * after the other, so the table's bytes in order are what the digest is defined over.
 */
export class HashTable {
  readonly #hashes: BigUint64Array;
  readonly #lanes: number;

  constructor(layout: GuestLayout, lane: number, lanes: number) {
    const owned = Math.ceil((layout.chunks - lane) / lanes);
    this.#hashes = new BigUint64Array(Math.max(0, owned) * CHUNK_PAGES);
    this.#lanes = lanes;
  }

  /** Entries, one for each page of the owned chunks. */
  get pages(): number {
    return this.#hashes.length;
  }

  get(pfn: number): bigint {
    return this.#hashes[this.indexOf(pfn)]!;
  }

  /** True when the page was last sent or written with the i-th of `hashes`. */
  holds(pfn: number, hashes: BigUint64Array, i: number): boolean {
    return this.#hashes[this.indexOf(pfn)] === hashes[i];
  }

  set(pfn: number, hash: bigint): void {
    this.#hashes[this.indexOf(pfn)] = hash;
  }

  /** Sets the pages of a run within a chunk to so many of `hashes`, from the `from`-th on. */
  setRun(firstPfn: number, pages: number, hashes: BigUint64Array, from: number): void {
    const first = this.indexOf(firstPfn);
    for (let i = 0; i < pages; i++) this.#hashes[first + i] = hashes[from + i]!;
  }

  /** The lane's part of the guest digest: one pass over 8 bytes a page, about 0.3 ms per GiB. */
  digest(hash: PageHash): bigint {
    return hash.ofLong(new Uint8Array(this.#hashes.buffer));
  }

  /** Where the page stands in this table, and in any other of the same lane. */
  indexOf(pfn: number): number {
    const chunk = Math.floor(pfn / CHUNK_PAGES);
    return Math.floor(chunk / this.#lanes) * CHUNK_PAGES + (pfn % CHUNK_PAGES);
  }
}
