import { formatDuration, formatRate, formatSize } from '../units.ts';
import { el, join, type Markup } from './chart/markup.ts';
import { eitherEnd } from './either-end.ts';
import type { ConsultationRecord } from './records.ts';
import { forecastInWords } from './summary.ts';
import { count, isFigure, plural } from './words.ts';

/** Consultations in a row that had the same answer, shown by the last of them. */
interface Run {
  readonly last: ConsultationRecord;
  readonly times: number;
  /** The answer changed here, or is the first or last. */
  readonly turning: boolean;
}

const HEAD = ['time', 'when', 'to send', 'dirty rate', 'drain rate', 'wire', 'forecast', 'verdict'];

/** Of a table. */
const MAX_ROWS = 600;

/** The policy's consultations: turning points at sight, all of them behind a fold. */
export function consultationTable(consultations: readonly ConsultationRecord[]): Markup {
  if (consultations.length === 0) return join([]);
  const runs = runsOf(consultations);
  const turning = runs.filter((run) => run.turning);
  return join([
    el('h2', {}, 'What the policy was asked'),
    el('div', { class: 'scroll' }, table(turning)),
    turning.length === runs.length
      ? undefined
      : el(
          'details',
          { class: 'all' },
          el('summary', {}, `All ${count(consultations.length)} consultations`),
          el('div', { class: 'scroll' }, table(runs)),
        ),
  ]);
}

function runsOf(consultations: readonly ConsultationRecord[]): Run[] {
  const runs: Run[] = [];
  let times = 0;
  consultations.forEach((record, i) => {
    const next = consultations[i + 1];
    times++;
    if (next !== undefined && sameRun(record, next)) return;
    const turning =
      i === 0 || next === undefined || changes(runs.at(-1)?.last, record) || changes(record, next);
    runs.push({ last: record, times, turning });
    times = 0;
  });
  return runs;
}

/** In a round, and while nothing is sent, the policy is asked several times a second: equal answers are one line. */
function sameRun(a: ConsultationRecord, b: ConsultationRecord): boolean {
  const { when } = a.stats;
  const atOneTime = when === b.stats.when && (when === 'in-round' || when === 'at-rest');
  return atOneTime && a.stats.iteration === b.stats.iteration && !changes(a, b);
}

function changes(a: ConsultationRecord | undefined, b: ConsultationRecord): boolean {
  if (a === undefined) return false;
  return a.verdict.action !== b.verdict.action || a.problem !== b.problem;
}

function table(runs: readonly Run[]): Markup {
  const { first, left, last } = eitherEnd(runs, MAX_ROWS);
  return el(
    'table',
    { class: 'ledger' },
    el(
      'thead',
      {},
      el(
        'tr',
        {},
        [...HEAD, 'reason'].map((text) => el('th', {}, text)),
      ),
    ),
    el('tbody', {}, first.map(row), left === 0 ? undefined : gap(left), last.map(row)),
  );
}

function gap(left: number): Markup {
  const text = `… ${plural(left, 'line')} left out; the ledger has all`;
  return el('tr', {}, el('td', { colspan: HEAD.length + 1 }, text));
}

function row({ last, times, turning }: Run): Markup {
  const { at, stats, verdict, problem } = last;
  const { dirtyCount, dirtyRate, drainRate, wireBytes, estimate } = stats;
  const reason = problem === undefined ? verdict.reason : `${verdict.reason} (${problem})`;
  const cells = [
    formatDuration(at),
    when(stats) + (times > 1 ? `, ${times} times` : ''),
    dirtyCount >= 0 ? count(dirtyCount) : '–',
    isFigure(dirtyRate) && dirtyRate >= 0 ? `${count(dirtyRate)}/s` : '–',
    isFigure(drainRate) && drainRate > 0 ? formatRate(drainRate) : '–',
    formatSize(wireBytes),
    estimate === undefined || estimate === null ? '–' : forecastInWords(estimate),
    verdict.action,
    reason,
  ];
  return el(
    'tr',
    { class: turning ? 'turning' : undefined },
    cells.map((cell) => el('td', {}, cell)),
  );
}

function when({ when, iteration }: ConsultationRecord['stats']): string {
  if (when === 'in-round') return `in round ${iteration + 1}`;
  if (when === 'after-round') return `after round ${iteration}`;
  if (when === 'at-rest') return `at rest after round ${iteration}`;
  return `before round ${iteration + 1}`;
}
