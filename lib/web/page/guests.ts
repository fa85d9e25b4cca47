import type { GuestView } from '../../migration/view.ts';
import { ask } from './api.ts';
import { GuestItem } from './guest-item.ts';
import { make, part } from './part.ts';

/** What happens at once is answered by one look: it asks every hypervisor of the host. */
const PAUSE_MS = 1000;

/** Guests of this host. They are asked for when something has begun or ended, and now and then. */
export class Guests {
  /** They stay the same elements while they are shown. */
  readonly #items = new Map<string, GuestItem>();
  #isDue = false;

  refresh(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setTimeout(() => this.#look(), PAUSE_MS);
  }

  async #look(): Promise<void> {
    this.#isDue = false;
    const { guests } = await ask<{ guests: readonly GuestView[] }>('GET', 'v1/guests').catch(
      () => ({ guests: undefined }),
    );
    if (guests === undefined) return;
    for (const id of ['guests', 'to-guests']) part(id).hidden = false;
    const list = part('guest-list');
    const names = new Set(guests.map(({ name }) => name));
    for (const name of this.#items.keys()) if (!names.has(name)) this.#items.delete(name);
    const elements: HTMLElement[] = guests.map((guest) => {
      const item = this.#items.get(guest.name) ?? new GuestItem(guest.name, () => this.refresh());
      this.#items.set(guest.name, item);
      item.show(guest);
      return item.element;
    });
    if (guests.length === 0) elements.push(make('li', 'quiet', 'none on this host'));
    const isOther = elements.some((element, i) => list.children[i] !== element);
    if (isOther || list.children.length !== elements.length) list.replaceChildren(...elements);
  }
}
