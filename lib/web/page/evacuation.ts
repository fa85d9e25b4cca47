import type { EvacuationView, Leaving } from '../../evacuation/view.ts';
import {
  askedInWords,
  elapsedMs,
  outcomeInWords,
  remarksOf,
  tallyInWords,
  tallyOf,
} from '../../evacuation/words.ts';
import type { MigrationView } from '../../migration/view.ts';
import type { Outcome } from '../../report/records.ts';
import { OUTCOME_WORDS } from '../../report/turning-points.ts';
import { shortDuration } from '../../report/words.ts';
import { formatDuration } from '../../units.ts';
import { isWanted } from './actions.ts';
import { ask } from './api.ts';
import { part, write } from './part.ts';
import { Rows } from './rows.ts';
import { type Row, rowOf, sentence, type Tone } from './wording.ts';

/** Between looks while it goes on, ms; what moves is heard at once. */
const LOOK_MS = 2000;

const TONES: Readonly<Record<Outcome, Tone>> = {
  ...{ completed: 'good', cancelled: 'open', aborted: 'bad', failed: 'bad' },
  'needs-resolve': 'bad',
};

/** The evacuation that is open, or the last one: a line in the overview, and a page of its own. */
export class Evacuation {
  readonly #onChange: () => void;
  readonly #rows = new Rows(part('leaving-list'), ({ guest }) => guest);
  #view: EvacuationView | undefined;
  #isLooking = false;

  /** @param onChange there is something else to show */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    part('leaving-cancel').addEventListener('click', () => this.#cancel());
  }

  /** Asks how it stands, and again while it goes on and somebody can see that. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { evacuation = this.#view } = await ask<{ evacuation?: EvacuationView }>(
      'GET',
      'v1/evacuation',
    ).catch(() => ({ evacuation: this.#view }));
    this.#isLooking = false;
    this.#view = evacuation;
    this.#onChange();
    if (evacuation !== undefined && evacuation.outcome === undefined)
      setTimeout(() => this.look(), LOOK_MS);
  }

  /** @returns whether there is one to be shown by itself */
  show(migrations: ReadonlyMap<string, MigrationView>, isAsked: boolean): boolean {
    const view = this.#view;
    part('evacuation').hidden = view === undefined;
    part('leaving').hidden = view === undefined || !isAsked;
    if (view === undefined) return false;
    const { moved } = tallyOf(view);
    const tally = sentence(tallyInWords(view));
    for (const id of ['evacuation-share', 'leaving-share'])
      part<HTMLProgressElement>(id).value = moved / view.leaving.length;
    write(part('evacuation-line'), tally);
    if (isAsked) part('evacuation-line').setAttribute('aria-current', 'page');
    else part('evacuation-line').removeAttribute('aria-current');
    if (isAsked) this.#showAll(view, migrations, tally);
    return isAsked;
  }

  #showAll(
    view: EvacuationView,
    migrations: ReadonlyMap<string, MigrationView>,
    tally: string,
  ): void {
    const { source, destinations, outcome } = view;
    const badge = part('leaving-badge');
    badge.className = `badge ${outcome === undefined ? 'runs' : TONES[outcome]}`;
    write(badge, outcome === undefined ? 'goes on' : OUTCOME_WORDS[outcome]);
    write(part('leaving-title'), `Evacuation of ${source} to ${destinations.join(', ')}`);
    const took = formatDuration(elapsedMs(view, Date.now()));
    const ended = outcome === undefined ? '' : ` ${sentence(outcomeInWords(view))}`;
    write(part('leaving-tally'), `${tally.slice(0, -1)} in ${took}.${ended}`);
    write(part('leaving-asked'), sentence(askedInWords(view)));
    part('leaving-cancel').hidden = outcome !== undefined;
    this.#rows.show(
      view.leaving.map((guest) => rowOfLeaving(guest, view, migrations)),
      undefined,
    );
  }

  async #cancel(): Promise<void> {
    const question = 'End the evacuation? Guests that are not given away stay where they are.';
    if (!(await isWanted(question, 'End the evacuation'))) return;
    try {
      await ask('POST', 'v1/evacuation/cancel');
      write(part('leaving-answer'), 'Nothing more is begun.');
    } catch (error) {
      write(part('leaving-answer'), (error as Error).message);
    }
    await this.look();
  }
}

/** A guest on its way is shown as its migration; one that waits, or is through, as the queue has it. */
function rowOfLeaving(
  guest: Leaving,
  { moving, startedAt }: EvacuationView,
  migrations: ReadonlyMap<string, MigrationView>,
): Row {
  const { name, migration, destination, end } = guest;
  const remarks = remarksOf(guest).join('; ');
  const known = migration === undefined ? undefined : migrations.get(migration);
  if (end === undefined && moving.includes(name) && known !== undefined && known.phase !== 'ended')
    return rowOf(known);
  const word =
    end === undefined ? (moving.includes(name) ? 'asks' : 'waits') : OUTCOME_WORDS[end.outcome];
  const seen = end?.suspensionMs;
  const limit = end?.limitMs === undefined ? '' : ` of ${shortDuration(end.limitMs)}`;
  const figures = seen === undefined ? '' : `suspended ${formatDuration(seen)}${limit}`;
  return {
    ...{ id: migration ?? '', guest: name, peer: destination ?? '', startedAt, share: undefined },
    ...{ isOver: end !== undefined, word, tone: end === undefined ? 'open' : TONES[end.outcome] },
    line: [figures, remarks].filter(Boolean).join(' · '),
  };
}
