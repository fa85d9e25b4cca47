import { formatDuration } from '../units.ts';
import { el, join, type Markup } from './chart/markup.ts';
import type { HostRecord } from './records.ts';
import type { Story } from './story.ts';
import { isFigure, plural } from './words.ts';

/** What the two hosts are, and the way between them; nothing where the ledger does not tell. */
export function hostsTable({ hosts, link, notes, start }: Story): Markup {
  const of = (wanted: HostRecord['side']) => hosts.find(({ side }) => side === wanted);
  const [source, destination] = [of('source'), of('destination')];
  if (source === undefined && destination === undefined) return join([]);
  const both = (what: (host: HostRecord) => string) =>
    [source, destination].map((host) => (host === undefined ? '–' : what(host)));
  const rows: (readonly [string, ...string[]])[] = [
    ['host', ...both(({ name }) => name)],
    ['processors', ...both(({ cpus }) => String(cpus))],
    ['system', ...both(({ system }) => system)],
    ['agent', ...both(({ agent }) => agent)],
    ['hypervisor', ...both(({ hypervisor }) => hypervisor ?? start.hypervisor)],
  ];
  const placement = notes.find(({ text }) => / placement: /.test(text));
  const way = [
    link && plural(link.lanes, 'lane'),
    link && (link.tls ? 'TLS' : 'no TLS'),
    link && `compression ${link.compression}`,
    link && isFigure(link.roundTripMs) ? `round trip ${formatDuration(link.roundTripMs)}` : '',
    placement?.text,
  ].filter((text) => text !== undefined && text !== '');
  return el(
    'section',
    {},
    el('h2', {}, 'Hosts and link'),
    el(
      'table',
      { class: 'hosts' },
      el(
        'thead',
        {},
        el('tr', {}, el('th', {}), el('th', {}, 'source'), el('th', {}, 'destination')),
      ),
      el(
        'tbody',
        {},
        rows.map(([name, ...cells]) =>
          el(
            'tr',
            {},
            el('th', { scope: 'row' }, name),
            cells.map((cell) => el('td', {}, cell)),
          ),
        ),
      ),
    ),
    way.length === 0 ? undefined : el('p', { class: 'quiet' }, `${way.join(' · ')}.`),
  );
}
