import { part, write } from './part.ts';
import { Rows } from './rows.ts';
import type { Row } from './wording.ts';

/** Of those that have ended, the newest: at first, and for whoever wants more. */
const ENDED = { few: 20, most: 200 };

/** The list of migrations: what runs first, then the newest. */
export class List {
  readonly #rows = new Rows(part('list'), ({ id }) => id);
  #mostEnded = ENDED.few;

  /** @param onMore older ones are to be shown */
  constructor(onMore: () => void) {
    part('older').addEventListener('click', () => {
      this.#mostEnded = ENDED.most;
      onMore();
    });
  }

  show(rows: readonly Row[], selected: string | undefined): void {
    const running = rows.filter(({ isOver }) => !isOver).sort(worstFirst);
    const ended = rows.filter(({ isOver }) => isOver).sort(newestFirst);
    this.#rows.show([...running, ...ended.slice(0, this.#mostEnded)], selected);
    const more = Math.min(ended.length, ENDED.most) - this.#mostEnded;
    part('older').hidden = more <= 0;
    write(part('older'), `Show ${more} older`);
    const counts = running.length > 0 ? `${running.length} running, ` : '';
    write(part('counts'), rows.length === 0 ? 'none yet' : `${counts}${ended.length} ended`);
  }
}

/** What needs somebody stands where it is seen. */
function worstFirst(a: Row, b: Row): number {
  return Number(b.tone === 'bad') - Number(a.tone === 'bad') || newestFirst(a, b);
}

function newestFirst(a: Row, b: Row): number {
  return a.startedAt < b.startedAt ? 1 : a.startedAt > b.startedAt ? -1 : 0;
}
