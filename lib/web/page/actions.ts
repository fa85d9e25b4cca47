import type { LimitsPatch, MigrationView } from '../../migration/view.ts';
import { heeds, LIMIT_COUNTS, LIMIT_DURATIONS, type PolicyName } from '../../precopy/limits.ts';
import { parseBandwidth, parseCount, parseDuration } from '../../units.ts';
import { ask } from './api.ts';
import { part, write } from './part.ts';

/** What can be done to the migration that is shown: the buttons of the page. */
export class Actions {
  #view: MigrationView | undefined;

  constructor() {
    part('cutover').addEventListener('click', () => this.#cutover());
    part('hold').addEventListener('click', () => this.#hold());
    part('cancel').addEventListener('click', () => this.#cancel());
    part('set').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#set();
    });
  }

  /** Of this one, from now on. A receiver can only cancel. */
  show(view: MigrationView): void {
    if (view.id !== this.#view?.id) {
      write(part('answer'), '');
      part<HTMLFormElement>('set').reset();
    }
    this.#view = view;
    const { role, phase, outcome, hold, policy } = view;
    const runs = ['connecting', 'precopy'].includes(phase) && outcome === undefined;
    part('actions').hidden = phase === 'ended' || phase === 'recovery' || outcome !== undefined;
    for (const id of ['cutover', 'hold', 'limits']) part(id).hidden = role !== 'send' || !runs;
    write(part('hold'), hold === undefined ? 'Hold' : 'End the hold');
    // A limit that the policy does not heed would be refused.
    for (const field of [
      'prefer',
      'pauseBelowMs',
      'abortAboveMs',
      'maxIters',
      'minRemaining',
    ] as const)
      fieldOf(field).hidden = role === 'send' && !heeds(policy as PolicyName, field);
  }

  async #cutover(): Promise<void> {
    const refusal = await this.#do('POST', 'cutover', {}, 'The cutover is ordered.');
    if (refusal?.name !== 'cutover-refused') return;
    const question = `${refusal.message}. Suspend the guest all the same? The suspension limit is enforced.`;
    if (await isWanted(question, 'Cut over all the same'))
      await this.#do('POST', 'cutover', { force: true }, 'The cutover is ordered.');
  }

  async #hold(): Promise<void> {
    if (this.#view?.hold === undefined)
      await this.#do('PATCH', '', { hold: 'cutover' }, 'The guest is held until a cutover.');
    else await this.#do('PATCH', '', { hold: null }, 'The hold has ended.');
  }

  async #cancel(): Promise<void> {
    const { role, guest } = this.#view!;
    const question = `Cancel the move of ${guest}? It runs on at its source.`;
    if (await isWanted(question, 'Cancel the move'))
      await this.#do('POST', 'cancel', undefined, role === 'send' ? 'Cancelled.' : 'Given up.');
  }

  async #set(): Promise<void> {
    const form = part<HTMLFormElement>('set');
    try {
      const patch = patchOf(new FormData(form));
      if ((await this.#do('PATCH', '', patch, 'The limits are changed.')) === undefined)
        form.reset();
    } catch (error) {
      say((error as Error).message, true);
    }
  }

  /** @returns what was wrong, which has been said */
  async #do(method: string, what: string, body: object | undefined, done: string) {
    const { id } = this.#view!;
    try {
      await ask(method, `v1/migrations/${id}${what && `/${what}`}`, body);
      say(done, false);
      return undefined;
    } catch (error) {
      say((error as Error).message, true);
      return error as Error;
    }
  }
}

/** The field of the form, with its name. */
function fieldOf(name: string): HTMLElement {
  return part('set').querySelector(`[name=${name}]`)!.closest('label')!;
}

/** @throws GodwitError bad-option for what has no unit, or a wrong one */
function patchOf(given: FormData): LimitsPatch {
  const texts = [...given]
    .map(([name, text]) => [name, String(text).trim()] as const)
    .filter(([, text]) => text !== '');
  if (given.get('at') !== '' && given.get('window') !== '')
    throw new Error('It is held until a time or outside of a window, not both.');
  return Object.fromEntries(texts.map(([name, text]) => limitOf(name, text)));
}

/** A field of the form as the daemon knows it. */
function limitOf(name: string, text: string): readonly [string, string | number | null] {
  switch (name) {
    case 'prefer':
      return [name, text];
    case 'at':
      return ['hold', new Date(text).toISOString()]; // by the clock of whoever sits there
    case 'window':
      return ['hold', text === 'none' ? null : text.replaceAll(' ', '')];
    case 'maxIters':
    case 'minRemaining':
      return [name, parseCount(text, labelOf(name), LIMIT_COUNTS[name])];
  }
  if (text === 'none') return [name, null];
  const label = labelOf(name);
  if (!name.endsWith('Ms')) return [name, parseBandwidth(text, label)];
  return [name, parseDuration(text, label, LIMIT_DURATIONS[name as keyof typeof LIMIT_DURATIONS])];
}

/** As the form names it. */
function labelOf(name: string): string {
  return `“${fieldOf(name).innerText.trim()}”`;
}

function say(text: string, isWrong: boolean): void {
  const answer = part('answer');
  answer.className = isWrong ? 'bad' : 'good';
  write(answer, text);
}

/** Asks whoever sits there. */
export function isWanted(question: string, yes: string): Promise<boolean> {
  const dialog = part<HTMLDialogElement>('question');
  write(part('question-text'), question);
  write(part('question-yes'), yes);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }),
  );
}
