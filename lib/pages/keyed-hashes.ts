import { hash, randomBytes } from 'node:crypto';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { HashTable } from './hash-table.ts';

/** Kept of each hash: with the 8 bytes of xxh64 and the page sets that is less than 16 a page. */
export const KEYED_BYTES = 7;
const SECRET_BYTES = 32;

/**
 * SHA-256 over a secret and a page, cut to 56 bits: nothing in the guest can meet it on purpose, so that
 * a guest can do no better than guess, about one chance in 2^56 for each pair of pages that it makes
 * alike under xxh64. It costs several times an xxh64.
 */
export class KeyedHash {
  readonly #input: Buffer;

  /** @param secret SECRET_BYTES that no guest knows */
  constructor(secret: Uint8Array) {
    this.#input = Buffer.concat([secret, Buffer.alloc(PAGE_SIZE)]);
  }

  /** KEYED_BYTES of a page; the first one is not 0. */
  of(page: Uint8Array): Uint8Array {
    this.#input.set(page, this.#input.length - PAGE_SIZE);
    const keyed = hash('sha256', this.#input, 'buffer').subarray(0, KEYED_BYTES);
    keyed[0] ||= 1;
    return keyed;
  }
}

/**
 * What the receiver has of each page, by its keyed hash. Neither the secret nor a hash leaves this
 * object, unless the secret is one that the receiver was told to hash a kept copy with. Ask for a hash
 * only where pages are alike, or where there is time.
 */
export class KeyedHashes {
  readonly #table: HashTable;
  readonly #key: KeyedHash;
  /** KEYED_BYTES a page; the first is 0 when nothing is known. Untouched parts cost no memory. */
  readonly #kept: Uint8Array;

  /** For the pages of that table. */
  constructor(table: HashTable, secret: Uint8Array = randomBytes(SECRET_BYTES)) {
    this.#table = table;
    this.#key = new KeyedHash(secret);
    this.#kept = new Uint8Array(table.pages * KEYED_BYTES);
  }

  /** The keyed hash of a page; its first byte is not 0. */
  of(page: Uint8Array): Uint8Array {
    return this.#key.of(page);
  }

  /** True when the page was last sent with the content of that hash; false also when nobody knows. */
  has(pfn: number, keyed: Uint8Array): boolean {
    const at = this.#at(pfn);
    for (let i = 0; i < KEYED_BYTES; i++) if (this.#kept[at + i] !== keyed[i]) return false;
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
    return this.#table.indexOf(pfn) * KEYED_BYTES;
  }
}
