import zlib from 'node:zlib';
import { PAGE_SIZE, type RegionFile } from '../memory/guest-layout.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import type { PageRun } from '../memory/page-set.ts';
import { LEVELS } from './compression.ts';

/** Pages that are read and compressed together: more of them make it hardly any smaller. */
export const PIECE_PAGES = 64;
/** 32 MiB of a larger guest, about a tenth of a second of one core. */
export const PIECES = 128;
/** The lightest of those that lanes choose from; on a link that outruns it they take none. */
const LEVEL = LEVELS[1];
const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);

/** What pages hold; shares from 0 to 1. */
export interface ContentShares {
  /** Of all pages, those of zeros. */
  readonly zeroShare: number;
  /** Compressed bytes for a byte of the others; 1 when there are none. */
  readonly compressedShare: number;
}

/** Looks at a sample of a guest's memory, spread evenly over it; synchronous, for worker threads. */
export class ContentSample {
  readonly #memory: GuestMemory;
  readonly #pieces: readonly PageRun[];
  readonly #piece = Buffer.alloc(PIECE_PAGES * PAGE_SIZE);
  #taken = 0;
  #pages = 0;
  #zeroPages = 0;
  #packedBytes = 0;

  /** @throws GodwitError ram-file-failed */
  constructor(files: readonly RegionFile[]) {
    this.#memory = new GuestMemory(files, 'read');
    this.#pieces = spread(files.flatMap(({ region }) => piecesOf(region)));
  }

  /** Pieces that are still to be looked at. */
  get left(): number {
    return this.#pieces.length - this.#taken;
  }

  /** Looks at the next piece. @throws GodwitError ram-file-failed */
  next(): void {
    const { firstPfn, pages } = this.#pieces[this.#taken++]!;
    this.#memory.read(firstPfn, pages, this.#piece, 0);
    let bytes = 0;
    for (let at = 0; at < pages * PAGE_SIZE; at += PAGE_SIZE) {
      const isZero = this.#piece.compare(ZERO_PAGE, 0, PAGE_SIZE, at, at + PAGE_SIZE) === 0;
      if (isZero) this.#zeroPages++;
      else bytes += this.#piece.copy(this.#piece, bytes, at, at + PAGE_SIZE);
    }
    this.#pages += pages;
    if (bytes > 0) this.#packedBytes += packed(this.#piece.subarray(0, bytes));
  }

  get shares(): ContentShares {
    const others = (this.#pages - this.#zeroPages) * PAGE_SIZE;
    return {
      zeroShare: this.#zeroPages / Math.max(1, this.#pages),
      compressedShare: others === 0 ? 1 : this.#packedBytes / others,
    };
  }

  close(): void {
    this.#memory.close();
  }
}

/** Bytes that these are compressed to; no more than they are. */
export function packed(bytes: Uint8Array): number {
  const params = { [zlib.constants.ZSTD_c_compressionLevel]: LEVEL };
  return Math.min(bytes.length, zlib.zstdCompressSync(bytes, { params }).length);
}

function piecesOf({ firstPfn, pages }: PageRun): PageRun[] {
  return Array.from({ length: Math.ceil(pages / PIECE_PAGES) }, (_, i) => ({
    firstPfn: firstPfn + i * PIECE_PAGES,
    pages: Math.min(PIECE_PAGES, pages - i * PIECE_PAGES),
  }));
}

/** One from each of so many equal parts, anywhere in it: memory has patterns of its own. */
function spread(pieces: readonly PageRun[]): readonly PageRun[] {
  if (pieces.length <= PIECES) return pieces;
  const part = pieces.length / PIECES;
  return Array.from({ length: PIECES }, (_, i) => pieces[Math.floor((i + Math.random()) * part)]!);
}
