import type { PageSet } from '../memory/page-set.ts';

/**
 * In which round each page last arrived: 4 bytes a page, written by the receiver's workers (each
 * its own chunks), read by its main thread. A tag is the round's number as the wire has it (32 bits,
 * 0: never arrived), so none comes round again. No clearing between rounds, so data of the next
 * round may overtake the control connection.
 */
export class RoundTags {
  readonly buffer: SharedArrayBuffer;
  readonly #tags: Uint32Array;
  readonly #arrivals: PageSet | undefined;

  /** @param arrivals gets every page that is marked; another thread takes them out */
  constructor(pfnEnd: number, buffer?: SharedArrayBuffer, arrivals?: PageSet) {
    this.#arrivals = arrivals;
    this.buffer = buffer ?? new SharedArrayBuffer(pfnEnd * 4);
    this.#tags = new Uint32Array(this.buffer);
  }

  mark(firstPfn: number, pages: number, round: number): void {
    this.#tags.fill(round, firstPfn, firstPfn + pages);
    this.#arrivals?.addShared({ firstPfn, pages });
  }

  /** Removes from `owed` every page that arrived in `round` or later. */
  settle(owed: PageSet, round: number): void {
    for (const { firstPfn, pages } of owed.runs()) {
      for (let pfn = firstPfn; pfn < firstPfn + pages; pfn++) {
        if (this.#tags[pfn]! >= round) owed.delete(pfn);
      }
    }
  }
}
