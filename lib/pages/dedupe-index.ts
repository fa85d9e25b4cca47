/** Pages that the index remembers at most; 5 bytes each. */
const MAX_SLOTS = 1 << 16;

/**
 * Finds an earlier page of the lane that may have equal content: a direct-mapped index from a
 * page's hash to where it was last seen. A slot is a hint: whether the earlier page has that hash,
 * and whether it has the content, is for others to say.
 */
export class DedupeIndex {
  readonly #pfns: Uint32Array;
  readonly #used: Uint8Array;

  /** @param lanePages pages that the lane has in all */
  constructor(lanePages: number) {
    const slots = Math.min(MAX_SLOTS, 2 ** Math.ceil(Math.log2(Math.max(1, lanePages))));
    this.#pfns = new Uint32Array(slots);
    this.#used = new Uint8Array(slots);
  }

  /** The pfn last remembered for a hash like this one, or undefined. */
  find(hash: bigint): number | undefined {
    const slot = this.#slotOf(hash);
    return this.#used[slot] === 1 ? this.#pfns[slot] : undefined;
  }

  remember(hash: bigint, pfn: number): void {
    const slot = this.#slotOf(hash);
    this.#pfns[slot] = pfn;
    this.#used[slot] = 1;
  }

  #slotOf(hash: bigint): number {
    return Number(BigInt.asUintN(32, hash)) & (this.#pfns.length - 1);
  }
}
