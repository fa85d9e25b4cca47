/** Pages that the index remembers; 12 bytes each. */
const SLOTS = 1 << 16;

/**
 * Finds an earlier page of the channel with equal content: a direct-mapped index from a page's
 * first hash to where it was last seen. A slot is a hint: whether the earlier page still has that
 * content is asked of the hash table, and the second hash makes the comparison 128 bits wide.
 */
export class DedupeIndex {
  readonly #pfns = new Uint32Array(SLOTS);
  readonly #seconds = new BigUint64Array(SLOTS);
  readonly #used = new Uint8Array(SLOTS);

  /** The pfn last remembered for this pair of hashes, or undefined. */
  find(hash: bigint, second: bigint): number | undefined {
    const slot = slotOf(hash);
    return this.#used[slot] === 1 && this.#seconds[slot] === second ? this.#pfns[slot] : undefined;
  }

  remember(hash: bigint, second: bigint, pfn: number): void {
    const slot = slotOf(hash);
    this.#pfns[slot] = pfn;
    this.#seconds[slot] = second;
    this.#used[slot] = 1;
  }
}

function slotOf(hash: bigint): number {
  return Number(hash & BigInt(SLOTS - 1));
}
