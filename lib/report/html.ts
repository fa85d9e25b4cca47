import { PAGE_SIZE } from '../memory/guest-layout.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';
import { type Child, el, join, Markup } from './chart/markup.ts';
import { figures, type Moment } from './charts.ts';
import { consultationTable } from './consultations.ts';
import { eitherEnd } from './either-end.ts';
import type { Figure, LegendEntry, Table } from './figures/figure.ts';
import { hostsTable } from './hosts.ts';
import type { CpuTimes, LedgerRecord } from './records.ts';
import { REPORT_STYLE } from './report-style.ts';
import { type Story, tellStory } from './story.ts';
import {
  disksInWords,
  foretoldInWords,
  heldInWords,
  promiseInWords,
  type Summary,
  sharesInWords,
  summarize,
} from './summary.ts';
import { OUTCOME_WORDS, type TurningPoint } from './turning-points.ts';
import { type WhatIf, whatIfTable } from './what-if.ts';
import { count, isFigure, limitsInWords, percent, plural, shortDuration } from './words.ts';

/**
 * The whole report as one HTML file: no script, no network, nothing that is not in the ledger.
 * Guest names and reasons come from outside; all text is escaped, and the page's own policy forbids
 * scripts and requests should anything slip through.
 * @param records as `parseLedger` returns them
 * @param whatIfs of the same ledger
 */
export function renderReport(
  records: readonly LedgerRecord[],
  whatIfs: readonly WhatIf[] = [],
): string {
  const story = tellStory(records);
  const summary = summarize(records);
  const moments = numbered(story);
  const head = el(
    'head',
    {},
    el('meta', { charset: 'utf-8' }),
    el('meta', {
      'http-equiv': 'Content-Security-Policy',
      content: "default-src 'none'; style-src 'unsafe-inline'",
    }),
    el('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }),
    el(
      'title',
      {},
      `${summary.guest}: ${OUTCOME_WORDS[summary.outcome]} · migration ${summary.id}`,
    ),
    el('style', {}, new Markup(REPORT_STYLE)),
  );
  const body = el(
    'body',
    {},
    headline(summary),
    facts(summary),
    happened(summary, moments),
    charts(figures(story, moments)),
    whatIfTable(whatIfs),
    consultationTable(story.consultations),
    hostsTable(story),
    footer(story),
  );
  return `<!doctype html>\n${el('html', { lang: 'en' }, head, body).text}\n`;
}

/** Changes of limits and notes, numbered as the time axes show them. */
function numbered({ start, limits, notes }: Story): Moment[] {
  const changes = limits.map(({ at, limits: now, ...caps }) => {
    return { at, text: limitsInWords(now, caps, start.policy) };
  });
  return [...changes, ...notes]
    .sort((a, b) => a.at - b.at)
    .map(({ at, text }, i) => ({ number: i + 1, at, text }));
}

function headline(summary: Summary): Markup {
  const { badge, tone, title } = verdictWords(summary);
  const foretold = foretoldInWords(summary);
  return el(
    'header',
    {},
    el('span', { class: `badge ${tone}` }, badge),
    el('h1', {}, title),
    summary.promise &&
      el('p', { class: 'promise' }, `${capital(promiseInWords(summary.promise))}.`),
    foretold &&
      el(
        'p',
        { class: 'quiet' },
        `Foretold${foretold.startsWith('by ') ? ' ' : ': '}${foretold.replace(/\.$/, '')}.`,
      ),
    summary.outcome === 'completed' || summary.message === ''
      ? undefined
      : el('p', { class: 'quiet' }, `${summary.message.replace(/\.$/, '')}.`),
  );
}

function verdictWords({ outcome, guest, destination, promise }: Summary) {
  const stayed = `${guest} stayed where it was`;
  const missed = promise?.result === 'missed';
  switch (outcome) {
    case 'completed':
      return missed
        ? {
            badge: '! Completed, promise missed',
            tone: 'open',
            title: `${guest} moved to ${destination}`,
          }
        : { badge: '✓ Completed', tone: 'good', title: `${guest} moved to ${destination}` };
    case 'aborted':
      return promise?.result === 'rolled-back'
        ? { badge: '↺ Rolled back', tone: 'bad', title: `${stayed}: the deadline passed` }
        : { badge: '✕ Aborted by policy', tone: 'bad', title: `${stayed}: the policy gave up` };
    case 'cancelled':
      return { badge: '■ Cancelled', tone: 'open', title: `${stayed}: the move was cancelled` };
    case 'needs-resolve':
      return {
        badge: '? Needs resolve',
        tone: 'bad',
        title: `Where ${guest} may run is not known`,
      };
    case 'running':
      return {
        badge: '… No outcome yet',
        tone: 'open',
        title: `${guest} on its way to ${destination}`,
      };
    default:
      return { badge: '✕ Failed', tone: 'bad', title: `The move of ${guest} failed` };
  }
}

function facts(summary: Summary): Markup {
  const { suspension, promise, wireRatio, wireRate, guestRate, cpu } = summary;
  const shown: [string, string, string?][] = [
    ['Took', formatDuration(summary.elapsedMs), plural(summary.rounds, 'round')],
  ];
  if (promise?.actualMs !== undefined || suspension !== undefined)
    shown.push(suspensionFact(summary));
  if (summary.wireBytes > 0)
    shown.push([
      'On the wire',
      formatSize(summary.wireBytes),
      `for ${formatSize(summary.guestBytes)} of guest memory${isFigure(wireRatio) && wireRatio < 10 ? ` (${percent(wireRatio)})` : ''}`,
    ]);
  if (summary.disks !== undefined) {
    const { bytes } = summary.disks;
    shown.push(['Disks', formatSize(bytes), disksInWords(summary.disks).replace(/, [^,]*$/, '')]);
  }
  if (isFigure(wireRate) && isFigure(guestRate))
    shown.push([
      'Mean rate',
      formatRate(guestRate),
      `of guest memory; ${formatRate(wireRate)} on the wire`,
    ]);
  if (summary.held !== undefined) {
    const { ms } = summary.held;
    shown.push([
      'Held ready',
      formatDuration(ms),
      heldInWords(summary.held).replace(/^.* for /, ''),
    ]);
  }
  if (cpu !== undefined) shown.push(cpuFact(cpu));
  const shares = sharesInWords(summary.encodings);
  if (shares !== '') shown.push(['Pages sent', count(summary.pages), shares]);
  return el(
    'dl',
    { class: 'facts' },
    shown.map(([name, figure, note]) =>
      el(
        'div',
        {},
        el('dt', {}, name),
        el('dd', { class: 'figure' }, figure),
        note === undefined || note === '' ? undefined : el('dd', { class: 'note' }, note),
      ),
    ),
  );
}

function cpuFact({ sourceMs, destinationMs }: CpuTimes): [string, string, string?] {
  const there = isFigure(destinationMs) ? `, agent-recv ${formatDuration(destinationMs)}` : '';
  const all = sourceMs + (isFigure(destinationMs) ? destinationMs : 0);
  return ['Processor time', formatDuration(all), `agent-send ${formatDuration(sourceMs)}${there}`];
}

function suspensionFact({ suspension, promise }: Summary): [string, string, string?] {
  const { agentMs, guestMs } = suspension!;
  const note = isFigure(guestMs)
    ? `agents timed ${formatDuration(agentMs)}`
    : 'by the agents’ clock; the guest could not tell';
  const seen = isFigure(guestMs) ? guestMs : agentMs;
  const limit = promise === undefined ? '' : `; limit ${shortDuration(promise.limitMs)}`;
  return ['Guest suspended', formatDuration(seen), note + limit];
}

/** Lines of the list: a line that flaps has thousands. */
const MAX_POINTS = 200;

function happened({ turningPoints }: Summary, moments: readonly Moment[]): Markup {
  const { first, left, last } = eitherEnd(turningPoints, MAX_POINTS);
  const item = ({ at, what, why }: TurningPoint) => {
    const moment = moments.find((one) => one.at === at && one.text === why);
    return el(
      'li',
      {},
      el('time', {}, formatDuration(at)),
      el(
        'div',
        {},
        moment && el('span', { class: 'flag' }, moment.number),
        moment && ' ',
        el('b', {}, what),
        why === '' ? undefined : el('span', {}, `: ${why}`),
      ),
    );
  };
  const gap = el('li', {}, el('time', {}, '…'), el('div', {}, `${plural(left, 'line')} left out`));
  const items = [...first.map(item), ...(left === 0 ? [] : [gap]), ...last.map(item)];
  return join([el('h2', {}, 'What happened'), el('ol', { class: 'story' }, items)]);
}

/** Widths that each figure is drawn for, px; the style sheet shows the one that fits. */
const WIDTHS = { wide: [1080, 520, 340], half: [520, 340] } as const;

function charts(all: readonly Figure[]): Markup {
  if (all.length === 0) return join([]);
  return el('section', { class: 'charts' }, all.map(figure));
}

function figure(one: Figure, index: number): Markup {
  const widths = one.wide ? WIDTHS.wide : WIDTHS.half;
  return el(
    'figure',
    { class: one.wide ? 'wide' : 'half' },
    el('figcaption', {}, el('h3', {}, one.title), el('p', {}, one.caption)),
    widths.map((width) =>
      el('div', { class: `w${width}` }, one.draw(`figure-${index}-${width}`, width)),
    ),
    one.legend.length === 0 ? undefined : legend(one.legend),
    el('details', {}, el('summary', {}, 'Numbers'), table(one.table)),
  );
}

function legend(entries: readonly LegendEntry[]): Markup {
  const items = entries.map(({ text, swatch, narrow }) =>
    el(
      'li',
      { class: narrow ? 'narrow' : undefined },
      el('span', { class: `swatch ${swatch}` }),
      text,
    ),
  );
  return el('ul', { class: 'legend' }, items);
}

function table({ head, rows }: Table): Markup {
  const line = (name: 'th' | 'td', cells: readonly Child[]) =>
    el(
      'tr',
      {},
      cells.map((cell) => el(name, {}, cell)),
    );
  return el(
    'div',
    { class: 'scroll' },
    el(
      'table',
      { class: 'numbers' },
      el('thead', {}, line('th', head)),
      el(
        'tbody',
        {},
        rows.map((row) => line('td', row)),
      ),
    ),
  );
}

function footer({ start }: Story): Markup {
  const { id, time, hypervisor, policy, limits, lanes, compression, verify } = start;
  const facts = [
    `Migration ${id}, started ${time}`,
    `${hypervisor} guest of ${formatSize(start.totalPages * PAGE_SIZE)}`,
    `${policy} policy at the start: ${limitsInWords(limits, start, policy)}`,
    `${lanes} data connections`,
    `compression ${compression}`,
    verify ? 'all memory read again at the destination' : 'memory compared by digest',
  ];
  return el('footer', {}, `${facts.join(' · ')}.`);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/\.$/, '');
}
