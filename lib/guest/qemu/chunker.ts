import { CHUNK_PAGES, GuestLayout, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import { ChunkRingWriter } from '../../pages/chunk-ring.ts';
import type { Pushed } from './ingest-protocol.ts';
import type { RamBlock } from './stream/format.ts';

/**
 * Gathers the pages of a stream into chunks and gives each to the ring of its channel. A pass goes
 * through a block in rising order, so one open chunk is enough.
 */
export class Chunker {
  readonly #firstPfns: readonly number[];
  readonly #rings: readonly ChunkRingWriter[];
  readonly #pfnEnd: number;
  #round = 1;
  #pages: PageSet;
  #chunk = -1;
  #open: ChunkRingWriter | undefined;

  /** @param regions one for each RAM block that has pages, by its name */
  constructor(
    blocks: readonly RamBlock[],
    regions: readonly Region[],
    rings: readonly SharedArrayBuffer[],
  ) {
    const firstPfns = new Map(regions.map(({ name, firstPfn }) => [name, firstPfn]));
    this.#firstPfns = blocks.map(({ name }) => firstPfns.get(name) ?? -1);
    this.#rings = rings.map((ring) => new ChunkRingWriter(ring));
    this.#pfnEnd = new GuestLayout(regions).pfnEnd;
    this.#pages = new PageSet(this.#pfnEnd);
  }

  /** A page of that block; undefined is a zero page. Blocks the thread while its ring is full. */
  put(block: number, offset: number, page: Buffer | undefined): void {
    const pfn = this.#firstPfns[block]! + offset / PAGE_SIZE;
    const chunk = Math.floor(pfn / CHUNK_PAGES);
    if (chunk !== this.#chunk) this.#turnTo(chunk);
    this.#open!.put(pfn % CHUNK_PAGES, page);
    this.#pages.add(pfn);
  }

  /** Gives away what was put so far, as part of that round; what follows belongs to the next. */
  publish(round: number): Pushed {
    this.#round = round;
    this.#close();
    const pages = this.#pages.buffer;
    this.#pages = new PageSet(this.#pfnEnd);
    this.#round = round + 1;
    return { chunks: this.#rings.map(({ published }) => published), pages };
  }

  #turnTo(chunk: number): void {
    this.#close();
    this.#chunk = chunk;
    this.#open = this.#rings[chunk % this.#rings.length]!;
    this.#open.open(chunk);
  }

  #close(): void {
    this.#open?.publish(this.#round);
    this.#open = undefined;
    this.#chunk = -1;
  }
}
