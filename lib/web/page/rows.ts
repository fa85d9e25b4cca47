import { make, write } from './part.ts';
import type { Row } from './wording.ts';

interface Item {
  readonly element: HTMLElement;
  readonly link: HTMLAnchorElement;
  readonly guest: HTMLElement;
  readonly badge: HTMLElement;
  readonly peer: HTMLElement;
  readonly share: HTMLProgressElement;
  readonly line: HTMLElement;
}

/** Migrations below each other. Items stay the same elements while they are shown. */
export class Rows {
  readonly #list: HTMLElement;
  readonly #keyOf: (row: Row) => string;
  readonly #items = new Map<string, Item>();

  /** @param keyOf what tells a row from all others */
  constructor(list: HTMLElement, keyOf: (row: Row) => string) {
    this.#list = list;
    this.#keyOf = keyOf;
  }

  /** @param selected ID of the one that is shown by itself */
  show(rows: readonly Row[], selected: string | undefined): void {
    const keys = new Set(rows.map(this.#keyOf));
    for (const [key, { element }] of this.#items)
      if (!keys.has(key)) {
        element.remove();
        this.#items.delete(key);
      }
    const { children } = this.#list;
    rows.forEach((row, i) => {
      const key = this.#keyOf(row);
      const item = this.#items.get(key) ?? this.#add(key);
      if (children[i] !== item.element) this.#list.insertBefore(item.element, children[i] ?? null);
      fill(item, row, selected !== undefined && row.id === selected);
    });
  }

  #add(key: string): Item {
    const element = document.createElement('li');
    const link = document.createElement('a');
    const share = document.createElement('progress');
    share.setAttribute('aria-label', 'share of the round that is sent');
    const item = {
      ...{ element, link, share },
      guest: make('b', 'guest'),
      badge: make('span', 'badge'),
      peer: make('span', 'peer quiet'),
      line: make('span', 'line'),
    };
    const head = make('span', 'ends');
    head.append(item.guest, item.badge);
    const foot = make('span', 'ends');
    foot.append(item.line, item.peer);
    link.append(head, share, foot);
    element.append(link);
    this.#items.set(key, item);
    return item;
  }
}

function fill(
  { link, guest, badge, peer, share, line }: Item,
  row: Row,
  isSelected: boolean,
): void {
  if (row.id === '') link.removeAttribute('href');
  else link.href = `#/${row.id}`;
  write(guest, row.guest);
  write(badge, row.word);
  badge.className = `badge ${row.tone}`;
  write(peer, row.peer);
  write(line, row.line);
  share.hidden = row.share === undefined;
  share.value = row.share ?? 0;
  if (isSelected) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}
