import { PAGE_SIZE } from '../../memory/guest-layout.ts';

/** What is not told: no type is so. */
export const UNTOLD = 0;

/**
 * What each page of a guest is, as its stream tells: a byte for each, its type and 1. They travel as
 * pages of a region of their own, beside the guest's, and are verified and compressed like those.
 */
export class PageTypes {
  readonly #bytes: Buffer;
  /** Each is given once, whatever is told of its pages. */
  readonly #changed: Set<number>;
  /** Where the last one was told: pages come in rising order. */
  #at = 0;

  constructor(pfnEnd: number) {
    const pages = Math.ceil(pfnEnd / PAGE_SIZE);
    this.#bytes = Buffer.alloc(pages * PAGE_SIZE);
    this.#changed = new Set(Array.from({ length: pages }, (_, page) => page));
  }

  /**
   * @param give gets pages that are complete for the time being: where pages rise beyond them, so that the
   *   other end need not wait for the end of the round
   */
  tell(pfn: number, type: number, give: (page: number, bytes: Buffer) => void): void {
    const page = Math.floor(pfn / PAGE_SIZE);
    if (page !== this.#at) this.#give(this.#at, give);
    this.#at = page;
    if (this.#bytes[pfn] === type + 1) return;
    this.#bytes[pfn] = type + 1;
    this.#changed.add(page);
  }

  isTold(pfn: number): boolean {
    return this.#bytes[pfn] !== UNTOLD;
  }

  /** All that has changed and was not given yet. */
  flush(give: (page: number, bytes: Buffer) => void): void {
    for (const page of [...this.#changed].sort((a, b) => a - b)) this.#give(page, give);
  }

  #give(page: number, give: (page: number, bytes: Buffer) => void): void {
    if (!this.#changed.delete(page)) return;
    give(page, this.#bytes.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE));
  }
}
