import { CHUNK_PAGES, GuestLayout, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import { ChunkRingWriter } from '../../pages/chunk-ring.ts';
import type { RamBlock } from '../../stream/qemu/format.ts';
import type { Pushed } from './ingest-protocol.ts';

/**
 * Gathers the pages of a stream into chunks and gives each to the ring of its lane. A pass goes
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

  /**
   * @param regions one for each RAM block that has pages, by its name
   */
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

  /** True while a ring is full: no more pages are to be put until there is `room`. */
  get isFull(): boolean {
    return this.#rings.some((ring) => ring.isFull);
  }

  /** Resolves when no ring is full any more, or when it is over. */
  async room(): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.room()));
  }

  /** Waits for no ring any more. */
  end(): void {
    for (const ring of this.#rings) ring.end();
  }

  /** A page of that block: 4096 bytes from `at` on, not needed after the call. */
  put(block: number, offset: number, bytes: Buffer, at: number): void {
    const pfn = this.#turnTo(block, offset);
    this.#open!.put(pfn % CHUNK_PAGES, bytes, at);
  }

  /** A page of that block that holds zeros. */
  zero(block: number, offset: number): void {
    const pfn = this.#turnTo(block, offset);
    this.#open!.zero(pfn % CHUNK_PAGES);
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

  /** Opens the chunk of a page that comes now; returns its pfn. */
  #turnTo(block: number, offset: number): number {
    const pfn = this.#firstPfns[block]! + offset / PAGE_SIZE;
    const chunk = Math.floor(pfn / CHUNK_PAGES);
    if (chunk !== this.#chunk) {
      this.#close();
      this.#chunk = chunk;
      this.#open = this.#rings[chunk % this.#rings.length]!;
      this.#open.open(chunk);
    }
    this.#pages.add(pfn);
    return pfn;
  }

  #close(): void {
    this.#open?.publish(this.#round);
    this.#open = undefined;
    this.#chunk = -1;
  }
}
