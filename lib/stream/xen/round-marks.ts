import { MOST_PAGES } from './format.ts';
import type { PageData } from './page-data.ts';

/**
 * Tells the rounds of libxc apart, which the stream does not mark: within one the pfns rise, and only
 * its last PAGE_DATA has fewer pages than fit (send_dirty_pages in tools/libs/guest/xg_sr_save.c). A
 * round of exactly so many pages is seen to have ended by what follows it, unless that goes on above
 * it: then the two count as one.
 */
export class RoundMarks {
  #lastPfn = -1;
  #ended = 0;

  /** Rounds that have ended. */
  get ended(): number {
    return this.#ended;
  }

  /** Before its pages are taken: true when they begin another round, so that the one before has ended. */
  begins({ firstPfn }: Pick<PageData, 'firstPfn'>): boolean {
    if (firstPfn > this.#lastPfn) return false;
    this.#end();
    return true;
  }

  /** True when it was the last one of its round. */
  ends({ pages, lastPfn }: PageData): boolean {
    this.#lastPfn = lastPfn;
    if (pages === MOST_PAGES) return false;
    this.#end();
    return true;
  }

  /** No pages follow: a round that is open has ended. */
  finish(): void {
    if (this.#lastPfn !== -1) this.#end();
  }

  #end(): void {
    this.#lastPfn = -1;
    this.#ended++;
  }
}
