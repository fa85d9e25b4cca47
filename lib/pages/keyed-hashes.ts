import { hash, randomBytes } from 'node:crypto';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { HashTable } from './hash-table.ts';

/** Kept of each hash: with the 8 bytes of xxh64 and the page sets that is less than 16 a page. */
const KEPT_BYTES = 7;
const SECRET_BYTES = 32;

/**
 * What the receiver has of each page, in a form that nothing in the guest can meet on purpose:
 * SHA-256 over a secret of this object and the page, cut to 56 bits. Neither the secret nor a hash
 * leaves it, so a guest can do no better than guess: about one chance in 2^56 for each pair of pages
 * that it makes alike under xxh64. A hash costs several times an xxh64: ask for it only where pages
 * are alike, or where there is time.
 */
export class KeyedHashes {
  readonly #table: HashTable;
  /** KEPT_BYTES a page; the first is 0 when nothing is known. Untouched parts cost no memory. */
  readonly #kept: Uint8Array;
  readonly #input = Buffer.concat([randomBytes(SECRET_BYTES), Buffer.alloc(PAGE_SIZE)]);

  /** For the pages of that table. */
  constructor(table: HashTable) {
    this.#table = table;
    this.#kept = new Uint8Array(table.pages * KEPT_BYTES);
  }

  /** The keyed hash of a page; its first byte is not 0. */
  of(page: Uint8Array): Uint8Array {
    this.#input.set(page, SECRET_BYTES);
    const keyed = hash('sha256', this.#input, 'buffer').subarray(0, KEPT_BYTES);
    keyed[0] ||= 1;
    return keyed;
  }

  /** True when the page was last sent with the content of that hash; false also when nobody knows. */
  has(pfn: number, keyed: Uint8Array): boolean {
    const at = this.#at(pfn);
    for (let i = 0; i < KEPT_BYTES; i++) if (this.#kept[at + i] !== keyed[i]) return false;
    return true;
  }

  set(pfn: number, keyed: Uint8Array): void {
    this.#kept.set(keyed, this.#at(pfn));
  }

  /** The page is sent with a content of which no hash is made. */
  forget(pfn: number): void {
    const at = this.#at(pfn);
    // Reads first: a part that was never written need not come into being for a zero.
    if (this.#kept[at] !== 0) this.#kept[at] = 0;
  }

  #at(pfn: number): number {
    return this.#table.indexOf(pfn) * KEPT_BYTES;
  }
}
