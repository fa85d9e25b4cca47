import { el, Markup } from '../report/chart/markup.ts';
import type { Outcome } from '../report/records.ts';
import { REPORT_STYLE } from '../report/report-style.ts';
import { formatDuration, formatSize } from '../units.ts';
import type { EvacuationView, Leaving } from './view.ts';
import {
  askedInWords,
  cellsOf,
  elapsedMs,
  outcomeInWords,
  remarksOf,
  tallyInWords,
  tallyOf,
} from './words.ts';

const BADGES: Readonly<Record<Outcome | 'open', readonly [tone: string, badge: string]>> = {
  completed: ['good', '✓ Completed'],
  cancelled: ['open', '■ Cancelled'],
  aborted: ['bad', '✕ Not all moved'],
  failed: ['bad', '✕ Not all moved'],
  'needs-resolve': ['bad', '? Needs resolve'],
  open: ['open', '… No outcome yet'],
};

const HEADS = [
  'Guest',
  'Outcome',
  'To',
  'Suspended',
  'Limit',
  'Tries',
  'Time',
  'Migration',
  'Remarks',
];

/** An evacuation as one HTML file, as strict as the report of a migration (`renderReport`). */
export function renderEvacuation(view: EvacuationView, now = Date.now()): string {
  const { id, source, destinations } = view;
  const title = `Evacuation of ${source} to ${destinations.join(', ')}`;
  const [tone, badge] = BADGES[view.outcome ?? 'open'];
  const head = el(
    'head',
    {},
    el('meta', { charset: 'utf-8' }),
    el('meta', {
      'http-equiv': 'Content-Security-Policy',
      content: "default-src 'none'; style-src 'unsafe-inline'",
    }),
    el('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }),
    el('title', {}, `${title} · ${id}`),
    el('style', {}, new Markup(REPORT_STYLE)),
  );
  const body = el(
    'body',
    {},
    el(
      'header',
      {},
      el('span', { class: `badge ${tone}` }, badge),
      el('h1', {}, title),
      el('p', { class: 'promise' }, `${capital(tallyInWords(view))}; ${outcomeInWords(view)}.`),
      el('p', { class: 'quiet' }, `${capital(askedInWords(view))}.`),
    ),
    facts(view, now),
    el('h2', {}, 'Guests'),
    el(
      'div',
      { class: 'scroll' },
      el(
        'table',
        { class: 'ledger' },
        el('tr', {}, ...HEADS.map((name) => el('th', {}, name))),
        ...view.leaving.map(row),
      ),
    ),
    leftOut(view),
    el('footer', {}, `Evacuation ${id}, begun ${view.startedAt}. ${LEDGERS}`),
  );
  return `<!doctype html>\n${el('html', { lang: 'en' }, head, body).text}\n`;
}

const LEDGERS = 'The decisions of each migration are in its report.';

function facts(view: EvacuationView, now: number): Markup {
  const ends = view.leaving.flatMap(({ end }) => end ?? []);
  const longest = Math.max(...ends.map(({ suspensionMs = 0 }) => suspensionMs), 0);
  const over = ends.filter(
    ({ suspensionMs = 0, limitMs = Infinity }) => suspensionMs > limitMs,
  ).length;
  const bytes = ends.reduce((sum, { wireBytes = 0 }) => sum + wireBytes, 0);
  const { moved } = tallyOf(view);
  const shown: readonly (readonly [string, string, string])[] = [
    ['Moved', `${moved}`, `of ${view.leaving.length}`],
    ['Took', formatDuration(elapsedMs(view, now)), `${view.parallel} at once`],
    ['Longest suspension', longest === 0 ? '-' : formatDuration(longest), `${over} over the limit`],
    ['On the wire', formatSize(bytes), 'by the last move of each guest'],
  ];
  return el(
    'dl',
    { class: 'facts' },
    ...shown.map(([name, figure, note]) =>
      el(
        'div',
        {},
        el('dt', {}, name),
        el('dd', { class: 'figure' }, figure),
        el('dd', { class: 'note' }, note),
      ),
    ),
  );
}

function row(guest: Leaving): Markup {
  const remarks = remarksOf(guest).join('; ');
  const cells = [...cellsOf(guest), guest.migration ?? '-', remarks];
  return el('tr', {}, ...cells.map((text) => el('td', {}, text)));
}

function leftOut({ leftOut: guests }: EvacuationView): Markup | undefined {
  if (guests.length === 0) return undefined;
  const items = guests.map(({ name, why }) => el('li', {}, el('b', {}, name), el('span', {}, why)));
  return el('section', {}, el('h2', {}, 'Left out'), el('ul', { class: 'story' }, ...items));
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
