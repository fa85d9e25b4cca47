import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { type ContentShares, PIECE_PAGES, PIECES, packed } from '../../pages/content-sample.ts';
import type { RamBlock } from '../../stream/qemu/format.ts';

/**
 * Pages of a stream that nobody wants. The first pass over the memory shows what it holds: zero pages are
 * counted, and pieces that are spread evenly over the others are compressed.
 */
export class DroppedPages {
  readonly #totalPages: number;
  /** One piece of so many is looked at. */
  readonly #every: number;
  readonly #piece = Buffer.allocUnsafe(PIECE_PAGES * PAGE_SIZE);
  #pages = 0;
  #zeroPages = 0;
  #pieceBytes = 0;
  #sampledBytes = 0;
  #packedBytes = 0;

  constructor(blocks: readonly RamBlock[]) {
    const bytes = blocks.reduce((sum, { length }) => sum + length, 0);
    this.#totalPages = bytes / PAGE_SIZE;
    this.#every = Math.max(1, Math.floor(this.#totalPages / PIECE_PAGES / PIECES));
  }

  /** A page that holds something: 4096 bytes from `at` on, not needed after the call. */
  put(bytes: Buffer, at: number): void {
    if (this.#pages >= this.#totalPages) return;
    const others = this.#pages++ - this.#zeroPages;
    if (Math.floor(others / PIECE_PAGES) % this.#every !== 0) return;
    this.#pieceBytes += bytes.copy(this.#piece, this.#pieceBytes, at, at + PAGE_SIZE);
    if (this.#pieceBytes < this.#piece.length) return;
    this.#packedBytes += packed(this.#piece);
    this.#sampledBytes += this.#pieceBytes;
    this.#pieceBytes = 0;
  }

  zero(): void {
    if (this.#pages >= this.#totalPages) return;
    this.#pages++;
    this.#zeroPages++;
  }

  /** Of what has come so far. */
  get shares(): ContentShares {
    const open = this.#piece.subarray(0, this.#pieceBytes);
    const sampled = this.#sampledBytes + open.length;
    const bytes = this.#packedBytes + (open.length > 0 ? packed(open) : 0);
    return {
      zeroShare: this.#zeroPages / Math.max(1, this.#pages),
      compressedShare: sampled === 0 ? 1 : bytes / sampled,
    };
  }
}
