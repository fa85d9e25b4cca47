import { RUN_STATE_WORDS } from '../guest/run-state.ts';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import { standing, stateWord } from '../migration/standing.ts';
import type { GuestView, HoldView, MigrationView } from '../migration/view.ts';
import type { Dilemma } from '../ownership/decision.ts';
import { localTime } from '../precopy/hold.ts';
import type { PolicyName } from '../precopy/limits.ts';
import type { ForetoldRecord, Judged, TrackRecord } from '../precopy/track-record.ts';
import { foretoldText } from '../report/foretold-text.ts';
import type { PastMigration } from '../report/history.ts';
import { limitsInWords, percent, printable } from '../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';

/** Migrations as a table, one a line. */
export function listText(views: readonly MigrationView[]): string {
  if (views.length === 0) return 'no migrations\n';
  const rows = [
    ['ID', 'GUEST', 'PEER', 'STATE', 'TIME', 'SENT', 'ROUND'],
    ...views.map((view) => [
      view.id,
      view.guest,
      view.peer,
      stateWord(view),
      formatDuration(view.elapsedMs),
      formatSize(view.wireBytes),
      String(view.round),
    ]),
  ];
  return table(rows)
    .map((line, i) => line + (i === 0 ? '' : remarks(views[i - 1]!)))
    .join('');
}

/** What the ledgers tell, a migration a line, and below it why it has not moved. */
export function historyText(history: readonly PastMigration[]): string {
  if (history.length === 0) return 'no migrations\n';
  const rows = history.map((past) => [
    localTime(Date.parse(past.time)),
    past.id,
    past.guest,
    past.source ?? '-',
    past.destination,
    past.outcome,
    past.ms === undefined ? '-' : formatDuration(past.ms),
    past.suspensionMs === undefined ? '-' : formatDuration(past.suspensionMs),
    past.by ?? '-',
  ]);
  const head = ['DATE', 'ID', 'GUEST', 'FROM', 'TO', 'OUTCOME', 'TIME', 'SUSPENDED', 'BY'];
  return table([head, ...rows.map((row) => row.map(printable))])
    .map((line, i) => line + (i === 0 ? '' : reason(history[i - 1]!)))
    .join('');
}

function reason({ outcome, message, code }: PastMigration): string {
  if (outcome === 'completed' || message === undefined) return '';
  return `  ${printable(message)}${code === undefined ? '' : ` (${printable(code)})`}\n`;
}

/** Guests as a table; of one that cannot be looked at it says why. */
export function guestsText(guests: readonly GuestView[]): string {
  if (guests.length === 0) return 'no guests\n';
  const rows = guests.map((guest) => {
    const { name, hypervisor } = guest;
    if ('trouble' in guest) return [name, hypervisor, '-', printable(guest.trouble)];
    return [name, hypervisor, formatSize(guest.memoryBytes), RUN_STATE_WORDS[guest.state]];
  });
  return table([['GUEST', 'HYPERVISOR', 'MEMORY', 'STATE'], ...rows]).join('');
}

/** How good forecasts have been, a hypervisor and a destination a line. */
export function trackRecordsText(records: readonly TrackRecord[]): string {
  if (records.length === 0) return 'no guest has been suspended by this agent yet\n';
  const rows = records.map((record) => [
    record.hypervisor,
    record.peer,
    String(record.moved),
    String(record.rolledBack),
    ...judgedCells(record),
  ]);
  const head = ['HYPERVISOR', 'PEER', 'MOVED', 'BACK', 'OFF BY', 'NINE OF TEN', 'IN BAND'];
  return table([head, ...rows]).join('');
}

/** The same of forecasts before moves: the whole time, and the suspension; empty when there is none. */
export function foretoldRecordsText(records: readonly ForetoldRecord[]): string {
  if (records.length === 0) return '';
  const rows = records.flatMap(({ hypervisor, peer, moved, misjudged, total, suspension }) => [
    [hypervisor, peer, 'time', String(moved), String(misjudged), ...judgedCells(total)],
    [hypervisor, peer, 'suspension', '', '', ...judgedCells(suspension)],
  ]);
  const head = ['HYPERVISOR', 'PEER', 'BEFORE THE MOVE', 'MOVED', 'WRONG'];
  return `\n${table([[...head, 'OFF BY', 'NINE OF TEN', 'IN BAND'], ...rows]).join('')}`;
}

function judgedCells({ medianError, ninthError, inside }: Judged): string[] {
  return [medianError, ninthError, inside].map((share) =>
    share === undefined ? '-' : percent(share),
  );
}

/** Lines whose columns begin at the same place. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => {
    const cells = row.map((cell, i) => cell.padEnd(widths[i]!));
    return `${cells.join('  ').trimEnd()}\n`;
  });
}

/** What a line of the table cannot say: nothing of a migration that simply goes on or has ended well. */
function remarks(view: MigrationView): string {
  const { waitsFor, decision, guestState, ownership } = view;
  const special = decision ?? guestState ?? (ownership === 'superseded' ? ownership : undefined);
  const open = waitsFor !== undefined && view.phase !== 'ended';
  const facts = [
    special !== undefined || open ? standing(view) : undefined,
    decision,
    waitsFor && `waits for ${waitsFor}`,
  ];
  return facts.map((fact) => (fact ? `  ${printable(fact)}\n` : '')).join('');
}

/** What a person could decide about a handover, and what that risks. */
export function dilemmaText({ proves, choices, fenced }: Dilemma): string {
  const options = Object.entries(choices).map(
    ([name, { does, risks }]) => `\n  --${name}\n    ${does}\n    Risk: ${risks}\n`,
  );
  const how = options.length > 0 ? '\nOnly if the other host is gone for good:\n' : '';
  const fence =
    fenced && `\n${fenced.fence}: if no other host has the guest, --${fenced.answer} is safe.\n`;
  return `${proves}\n${fence ?? ''}${how}${options.join('')}`;
}

/** `until 2026-11-30 02:00, ready; 1 h 20 m so far, 2.5 MiB a minute on the wire`. */
function holdText({ until, ready, ms, wirePerMinute }: HoldView): string {
  const cost =
    wirePerMinute === undefined ? '' : `, ${formatSize(wirePerMinute)} a minute on the wire`;
  const since = ms > 0 ? `; ${formatDuration(ms)} so far${cost}` : '';
  return `${until}, ${ready ? 'ready' : 'not ready'}${since}`;
}

/** One migration, a fact a line. */
export function showText(view: MigrationView): string {
  const { estimate, suspension, limits, policy } = view;
  const facts: [string, string | false | undefined][] = [
    ['id', view.id],
    ['guest', `${view.guest} (${formatSize(view.totalPages * PAGE_SIZE)})`],
    [view.role === 'send' ? 'to' : 'from', view.peer],
    ['state', stateWord(view)],
    ['means', standing(view)],
    ['decision', view.decision],
    ['message', view.message && `${view.message}${view.code ? ` (${view.code})` : ''}`],
    ['waits for', view.waitsFor],
    ['time', formatDuration(view.elapsedMs)],
    ['round', `${view.round} (${view.roundSent} of ${view.roundPages} pages)`],
    ['sent', `${view.pagesSent} pages, ${formatSize(view.wireBytes)} on the wire`],
    ['rate', view.wireRate > 0 && formatRate(view.wireRate)],
    ['dirty', view.dirtyRate >= 0 && `${Math.round(view.dirtyRate)} pages/s`],
    ['forecast', estimate && `suspension of ${formatDuration(estimate.expected)}`],
    ['foretold', view.foretold && foretoldText(view.foretold, limits)],
    ['verdict', view.verdict && `${view.verdict.action}: ${view.verdict.reason}`],
    ['held', view.hold && holdText(view.hold)],
    ['limits', limits && limitsInWords(limits, view, policy as PolicyName)],
    ['suspended', suspension && formatDuration(suspension.guestMs ?? suspension.agentMs)],
  ];
  return facts
    .map(([name, text]) => (text ? `${`${name}:`.padEnd(11)}${printable(text)}\n` : ''))
    .join('');
}
