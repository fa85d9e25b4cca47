import { GodwitError } from '../errors.ts';
import type { GuestLayout } from '../memory/guest-layout.ts';
import { PageSet } from '../memory/page-set.ts';
import type { ReceivePool } from '../pages/receive-pool.ts';
import { addDirtyList } from '../wire/dirty-list.ts';
import type { DirtyList, RoundBegin, RoundEnd } from '../wire/messages.ts';

/**
 * The receiver's book of rounds: which pages were announced, and whether every one of them came.
 * The first round announces all of memory, so when nothing is owed everything is here.
 */
export class Arrivals {
  readonly #layout: GuestLayout;
  readonly #pool: ReceivePool;
  readonly #owed: PageSet;
  /** The round between its RoundBegin and its RoundEnd. */
  #open: RoundBegin | undefined;
  #round = 0;
  #roundPages = 0;
  #last = false;

  constructor(layout: GuestLayout, pool: ReceivePool) {
    this.#layout = layout;
    this.#pool = pool;
    this.#owed = new PageSet(layout.pfnEnd);
  }

  /** The last round that began, and its pages. */
  get round(): { readonly number: number; readonly pages: number } {
    return { number: this.#round, pages: this.#roundPages };
  }

  /** True when the stop-and-copy round has ended: nothing comes after it. */
  get last(): boolean {
    return this.#last;
  }

  /** @throws GodwitError bad-message */
  begin(begin: RoundBegin): void {
    if (this.#open || this.#last || begin.round !== this.#round + 1)
      throw new GodwitError(
        'bad-message',
        `round ${begin.round} begins after round ${this.#round}${this.#open ? ', which has not ended' : ''}`,
      );
    if (begin.round === 1 && begin.dirtyPages !== this.#layout.totalPages)
      throw new GodwitError(
        'bad-message',
        `the first round announces ${begin.dirtyPages} of ${this.#layout.totalPages} pages`,
      );
    this.#open = begin;
    this.#round = begin.round;
    this.#roundPages = begin.dirtyPages;
  }

  /** @throws GodwitError bad-message, pfn-out-of-range */
  list(list: DirtyList): void {
    if (list.round !== this.#open?.round)
      throw new GodwitError('bad-message', `DirtyList of round ${list.round} out of its round`);
    addDirtyList(list, this.#layout, this.#owed);
  }

  /** @throws GodwitError bad-message, round-incomplete when a listed page did not arrive */
  end({ round, cutShort }: RoundEnd): void {
    const open = this.#open;
    if (round !== open?.round)
      throw new GodwitError('bad-message', `RoundEnd of round ${round}, which is not running`);
    this.#open = undefined;
    const listed = this.#owed.count();
    if (listed < open.dirtyPages)
      throw new GodwitError(
        'bad-message',
        `round ${round} announced ${open.dirtyPages} pages and listed ${listed}`,
      );
    this.#pool.settle(this.#owed, round);
    if (!cutShort) this.#nothingOwed(`round ${round} ended`);
    this.#last = open.stopAndCopy;
  }

  /** After the last round. @throws GodwitError bad-message, round-incomplete */
  complete(): void {
    if (!this.#last) throw new GodwitError('bad-message', 'Digest before the last round has ended');
    this.#nothingOwed('the last round ended');
  }

  #nothingOwed(when: string): void {
    const missing = this.#owed.count();
    if (missing === 0) return;
    const [first] = this.#owed.runs();
    throw new GodwitError(
      'round-incomplete',
      `${when} and ${missing} listed pages have not arrived, the first of them pfn ${first!.firstPfn}`,
    );
  }
}
