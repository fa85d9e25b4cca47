import { CHUNK_PAGES, type GuestLayout } from '../memory/guest-layout.ts';
import type { PageHash } from './hash.ts';

/**
 * The hash of every page of one channel as last sent (sender) or written (receiver): 8 bytes a
 * page, private to one worker. 0 stands for a page that was never sent. The owned chunks stand one
 * after the other, so the table's bytes in order are what the digest is defined over.
 */
export class HashTable {
  readonly #hashes: BigUint64Array;
  readonly #channels: number;

  constructor(layout: GuestLayout, channel: number, channels: number) {
    const owned = Math.ceil((layout.chunks - channel) / channels);
    this.#hashes = new BigUint64Array(Math.max(0, owned) * CHUNK_PAGES);
    this.#channels = channels;
  }

  get(pfn: number): bigint {
    return this.#hashes[this.#index(pfn)]!;
  }

  set(pfn: number, hash: bigint): void {
    this.#hashes[this.#index(pfn)] = hash;
  }

  /** The channel's part of the guest digest: one pass over 8 bytes a page, about 0.3 ms per GiB. */
  digest(hash: PageHash): bigint {
    return hash.ofLong(new Uint8Array(this.#hashes.buffer));
  }

  #index(pfn: number): number {
    const chunk = Math.floor(pfn / CHUNK_PAGES);
    return Math.floor(chunk / this.#channels) * CHUNK_PAGES + (pfn % CHUNK_PAGES);
  }
}
