import type { MigrationView } from '../../migration/view.ts';
import { type Sample, Samples, sampleOf } from '../samples.ts';
import { Actions } from './actions.ts';
import { ask } from './api.ts';
import { make, part, write } from './part.ts';
import { timeline } from './timeline.ts';
import { type Fact, factsOf, reasonOf, rowOf, standsOf, termsOf } from './wording.ts';

/** A migration as it goes. */
export class Live {
  readonly #actions = new Actions();
  /** Whose samples these are. */
  #id = '';
  #samples = new Samples();

  /** Samples of the one that is shown. */
  get samples(): readonly Sample[] {
    return this.#samples.all;
  }

  /** Also while nobody can see the page. */
  hear(view: MigrationView): void {
    if (view.id === this.#id) this.#samples.add(sampleOf(view));
  }

  /** As it is now; its history is asked for when it is shown first. */
  show(view: MigrationView): void {
    if (view.id !== this.#id) {
      this.#id = view.id;
      this.#samples = new Samples();
      this.hear(view);
      this.recall();
    }
    const { word, tone, share } = rowOf(view);
    const badge = part('badge');
    badge.className = `badge ${tone}`;
    write(badge, word);
    write(part('title'), `${view.guest} ${view.role === 'send' ? 'to' : 'from'} ${view.peer}`);
    write(part('why'), reasonOf(view));
    write(part('stands'), standsOf(view));
    write(part('terms'), termsOf(view));
    const progress = part<HTMLProgressElement>('share');
    progress.hidden = share === undefined;
    progress.value = share ?? 0;
    this.#actions.show(view);
    showFacts(factsOf(view));
    this.#draw();
  }

  /** What the daemon remembers takes the place of what was seen here, which may have gaps. */
  async recall(): Promise<void> {
    const id = this.#id;
    if (id === '') return;
    const { samples } = await ask<{ samples: Sample[] }>('GET', `samples/${id}`).catch(() => ({
      samples: [],
    }));
    const until = samples.at(-1)?.at;
    if (id !== this.#id || until === undefined) return;
    const seen = this.#samples.all.filter(({ at }) => at > until);
    this.#samples = Samples.of([...samples, ...seen]);
  }

  #draw(): void {
    const at = part('timeline');
    const drawn = timeline(this.#samples.all, Math.max(300, at.clientWidth));
    at.innerHTML = drawn?.text ?? ''; // markup of our own, in which all text is escaped
  }
}

/** Elements stay where they are: who reads there is not thrown back to the beginning. */
function showFacts(facts: readonly Fact[]): void {
  const list = part('facts');
  while (list.children.length > facts.length) list.lastElementChild!.remove();
  while (list.children.length < facts.length) {
    const group = document.createElement('div');
    group.append(make('dt', ''), make('dd', 'figure'), make('dd', 'note'));
    list.append(group);
  }
  facts.forEach((texts, i) => {
    texts.forEach((text, j) => {
      write(list.children[i]!.children[j]!, text);
    });
  });
}
