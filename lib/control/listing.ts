import type { Dilemma } from '../handover/resolve.ts';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { PolicyName } from '../precopy/limits.ts';
import { limitsInWords, printable } from '../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';
import type { MigrationView } from './view.ts';

/** Migrations as a table, one a line. */
export function listText(views: readonly MigrationView[]): string {
  if (views.length === 0) return 'no migrations\n';
  const rows = [
    ['ID', 'GUEST', 'PEER', 'STATE', 'TIME', 'SENT', 'ROUND'],
    ...views.map((view) => [
      view.id,
      view.guest,
      view.peer,
      view.outcome ?? view.phase,
      formatDuration(view.elapsedMs),
      formatSize(view.wireBytes),
      String(view.round),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map(
    (row) =>
      `${row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd()}\n`,
  );
  const waits = views.map(({ waitsFor }) =>
    waitsFor ? `  waits for ${printable(waitsFor)}\n` : '',
  );
  return lines.map((line, i) => line + (waits[i - 1] ?? '')).join('');
}

/** What a person could decide about a handover, and what that risks. */
export function dilemmaText({ proves, choices }: Dilemma): string {
  const options = Object.entries(choices).map(
    ([name, { does, risks }]) => `\n  --${name}\n    ${does}\n    Risk: ${risks}\n`,
  );
  const how = options.length > 0 ? '\nOnly if the other host is gone for good:\n' : '';
  return `${proves}\n${how}${options.join('')}`;
}

/** One migration, a fact a line. */
export function showText(view: MigrationView): string {
  const { estimate, suspension, limits, policy } = view;
  const facts: [string, string | false | undefined][] = [
    ['id', view.id],
    ['guest', `${view.guest} (${formatSize(view.totalPages * PAGE_SIZE)})`],
    [view.role === 'send' ? 'to' : 'from', view.peer],
    ['state', view.outcome ?? view.phase],
    ['message', view.message && `${view.message}${view.code ? ` (${view.code})` : ''}`],
    ['waits for', view.waitsFor],
    ['time', formatDuration(view.elapsedMs)],
    ['round', `${view.round} (${view.roundSent} of ${view.roundPages} pages)`],
    ['sent', `${view.pagesSent} pages, ${formatSize(view.wireBytes)} on the wire`],
    ['rate', view.wireRate > 0 && formatRate(view.wireRate)],
    ['dirty', view.dirtyRate >= 0 && `${Math.round(view.dirtyRate)} pages/s`],
    ['forecast', estimate && `suspension of ${formatDuration(estimate.expected)}`],
    ['verdict', view.verdict && `${view.verdict.action}: ${view.verdict.reason}`],
    ['limits', limits && limitsInWords(limits, view.bandwidth, policy as PolicyName)],
    ['suspended', suspension && formatDuration(suspension.guestMs ?? suspension.agentMs)],
  ];
  return facts
    .map(([name, text]) => (text ? `${`${name}:`.padEnd(11)}${printable(text)}\n` : ''))
    .join('');
}
