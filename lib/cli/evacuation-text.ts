import type { EvacuationPlan, EvacuationView, LeftOut } from '../evacuation/view.ts';
import {
  askedInWords,
  COLUMNS,
  cellsOf,
  elapsedMs,
  outcomeInWords,
  remarksOf,
  tallyInWords,
} from '../evacuation/words.ts';
import type { MigrationView } from '../migration/view.ts';
import { printable } from '../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';
import { table } from './listing.ts';
import { LineFilter, type Paint, progressBar, progressLine } from './progress.ts';

/** A name takes no more of a line than this. */
const MAX_NAME = 16;

/** An evacuation as it stands, or has ended: for a terminal, a log, a change ticket. */
export function evacuationText(view: EvacuationView, now = Date.now()): string {
  const { id, source, destinations, leaving, leftOut } = view;
  const rows = leaving.map((guest) => {
    const [name, state, ...more] = cellsOf(guest);
    return [name!, view.moving.includes(guest.name) ? 'moving' : state!, ...more].map(printable);
  });
  const lines = table([COLUMNS, ...rows]).map(
    (line, i) => line + (i === 0 ? '' : remarks(remarksOf(leaving[i - 1]!))),
  );
  return [
    `evacuation ${id} of ${source} to ${destinations.join(', ')}\n`,
    `  ${tallyInWords(view)} in ${formatDuration(elapsedMs(view, now))}; ${outcomeInWords(view)}\n`,
    `  ${printable(askedInWords(view))}\n\n`,
    ...lines,
    leftOutText(leftOut),
  ].join('');
}

/** What an evacuation would begin with. */
export function planText({ leaving, leftOut }: EvacuationPlan): string {
  const rows = leaving.map(({ name, memoryBytes, destination }) => [
    name,
    memoryBytes === undefined ? '-' : formatSize(memoryBytes),
    destination ?? 'nowhere',
  ]);
  const lines = table([['GUEST', 'MEMORY', 'TO'], ...rows]).map((line, i) => {
    const guest = leaving[i - 1];
    if (guest === undefined) return line;
    const refused = guest.refused.map(
      (one) => `refused by ${one.destination}: ${one.message} (${one.code})`,
    );
    return line + remarks([...(guest.why === undefined ? [] : [guest.why]), ...refused]);
  });
  return `${lines.join('')}${leftOutText(leftOut)}
Nothing was moved. Each guest was asked for as if it were the only one; what is refused when others have
arrived goes to the next destination.
`;
}

function remarks(texts: readonly string[]): string {
  return texts.map((text) => `  ${printable(text)}\n`).join('');
}

function leftOutText(guests: readonly LeftOut[]): string {
  return guests.map(({ name, why }) => `left out: ${name}: ${printable(why)}\n`).join('');
}

/** The lines of a terminal, none longer than its width: the whole, and each guest that is on its way. */
export function evacuationLines(
  view: EvacuationView,
  migrations: readonly MigrationView[],
  width: number,
  now = Date.now(),
  paint?: Paint,
): string[] {
  const running = runningOf(view, migrations);
  const rate = running.reduce((sum, { migration }) => sum + (migration?.wireRate ?? 0), 0);
  const of = view.bandwidth === undefined ? '' : ` of ${formatRate(view.bandwidth)}`;
  const sending = rate > 0 ? `, ${formatRate(rate)}${of}` : '';
  const whole = `${formatDuration(elapsedMs(view, now))}  ${tallyInWords(view)}${sending}`;
  const lines = running.map(({ name, migration, waitsFor }) => {
    const label = `${shortened(name)}  `;
    const what = migration === undefined ? waitsFor : undefined;
    if (migration === undefined) return `${label}${printable(what ?? 'asks')}`.slice(0, width);
    return `${label}${progressBar(migration, width - label.length, paint)}`;
  });
  return [whole.slice(0, width), ...lines];
}

/** Plain lines for logs and pipes: what is new of the whole and of each guest. */
export class EvacuationLog {
  readonly #filters = new Map<string, LineFilter>();
  readonly #told = new Map<string, string>();
  #whole = '';

  /** Lines to be printed now. */
  lines(
    view: EvacuationView,
    migrations: readonly MigrationView[],
    now = Date.now(),
  ): readonly string[] {
    const lines: string[] = [];
    for (const { name, migration } of runningOf(view, migrations)) {
      if (migration === undefined) continue;
      const filter = this.#filters.get(migration.id) ?? new LineFilter();
      this.#filters.set(migration.id, filter);
      if (filter.wants(migration)) lines.push(`${printable(name)} ${progressLine(migration)}`);
    }
    for (const guest of view.leaving) {
      const { name, end, destination } = guest;
      const to = destination === undefined ? '' : ` → ${destination}`;
      const said =
        end === undefined
          ? (remarksOf(guest)[0] ?? '')
          : [`${end.outcome}${to}`, ...remarksOf(guest)].join('; ');
      if (said !== '' && this.#told.get(name) !== said) lines.push(printable(`${name} ${said}`));
      this.#told.set(name, said);
    }
    const whole = tallyInWords(view);
    if (whole !== this.#whole)
      lines.push(`${formatDuration(elapsedMs(view, now))}  ${printable(whole)}`);
    this.#whole = whole;
    return lines;
  }
}

function runningOf({ leaving, moving }: EvacuationView, migrations: readonly MigrationView[]) {
  return leaving
    .filter(({ name }) => moving.includes(name))
    .map(({ name, migration: id, waitsFor }) => {
      const own = migrations.find((one) => one.id === id && one.phase !== 'ended');
      const other = migrations.find((one) => one.guest === name && one.phase !== 'ended');
      return { name, migration: own ?? other, waitsFor };
    });
}

/** As wide as a column, so that bars begin at the same place. */
function shortened(name: string): string {
  const text = printable(name);
  return (text.length > MAX_NAME ? `${text.slice(0, MAX_NAME - 1)}…` : text).padEnd(MAX_NAME);
}
