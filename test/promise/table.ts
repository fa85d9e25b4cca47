import { quantile } from '../../lib/precopy/calibration.ts';
import type { SuspensionParts } from '../../lib/precopy/suspension.ts';
import { formatDuration } from '../../lib/units.ts';
import { isOver, isUnforeseen, type Likely, type Moved } from './moved.ts';

/** A suspension below this is judged in milliseconds: threads that wake late are a large share of it. */
const SHORT_MS = 50;

type Row = readonly [name: string, figure: string];

/** What was said, and what came; ms. */
interface Judged {
  readonly said: Likely;
  readonly came: number;
}

/** The table of many moves, for each kind of guest: what was promised and what came of it. */
export function table(all: readonly Moved[]): string {
  const kinds = Map.groupBy(all, ({ asked }) => asked.kind);
  return [...kinds].map(([kind, some]) => `${kind} guests\n${tableOf(rowsOf(some))}`).join('\n\n');
}

function rowsOf(all: readonly Moved[]): Row[] {
  const moved = all.filter(({ outcome }) => outcome === 'completed');
  const rolledBack = all.filter(({ code }) => code === 'suspension-limit');
  const givenUp = all.filter(({ code }) => code === 'policy-abort');
  const failed = all.length - moved.length - rolledBack.length - givenUp.length;
  const over = all.filter(isOver).toSorted((a, b) => excess(b) - excess(a));
  const worst = over[0] && `; worst: ${inWords(over[0])}`;
  const tried = all.flatMap(({ enough }) => (enough === undefined ? [] : [enough.moved]));
  const unforeseen = rolledBack.filter(isUnforeseen).length;
  return [
    ['moves', `${all.length}`],
    ['moved', `${moved.length}`],
    ['rolled back at the limit', `${rolledBack.length}, ${unforeseen} outside of their band`],
    ['given up by the policy', `${givenUp.length}`],
    ...(failed > 0 ? [['failed', `${failed}`] as const] : []),
    ['over the limit', `${over.length}${worst ?? ''}`],
    ['a larger limit was enough', of(tried)],
    ...decisionRows(moved),
    ...checkRows(all, moved),
  ];
}

/** The forecast on which the guest was suspended. */
function decisionRows(moved: readonly Moved[]): Row[] {
  const judged = moved.flatMap(({ suspension, guestMs }): Judged[] =>
    suspension?.estimate && guestMs > 0 ? [{ said: suspension.estimate, came: guestMs }] : [],
  );
  const [short, long] = [true, false].map((isShort) =>
    judged.filter(({ came }) => came < SHORT_MS === isShort),
  ) as [Judged[], Judged[]];
  return [
    ['at the decision: forecast off by', relative(judged)],
    [`  suspensions of ${SHORT_MS} ms and more`, relative(long)],
    [`  shorter ones`, `${relative(short)}; ${absolute(short.map(errorMs))}`],
    ['  inside the band', inside(judged)],
    ...PARTS.map((part): Row => [`  ${part.name}`, absolute(moved.flatMap(part.errors))]),
  ];
}

/** What `check` had said before. */
function checkRows(all: readonly Moved[], moved: readonly Moved[]): Row[] {
  const told = all.filter(({ foretold }) => foretold !== undefined);
  if (told.length === 0) return [];
  const judged = (what: 'totalMs' | 'suspensionMs', came: (one: Moved) => number) =>
    moved.flatMap((one): Judged[] => {
      const said = one.foretold?.[what];
      return said === undefined ? [] : [{ said, came: came(one) }];
    });
  const total = judged('totalMs', ({ ms }) => ms);
  const suspension = judged('suspensionMs', ({ guestMs }) => guestMs);
  const verdicts = told.flatMap(({ foretold, outcome }) => {
    const { verdict } = foretold!;
    return verdict === 'yes' || verdict === 'no'
      ? [(verdict === 'yes') === (outcome === 'completed')]
      : [];
  });
  return [
    ['before the move: yes or no was right', of(verdicts)],
    ['  whole time off by', relative(total)],
    ['  inside the span', inside(total)],
    ['  suspension off by', relative(suspension)],
    ['  inside the span', inside(suspension)],
  ];
}

/** Parts of the forecast and what they were, in what the suspension's record tells of both. */
const PARTS: readonly { name: string; errors: (moved: Moved) => number[] }[] = [
  { name: 'until Commit is said', errors: partError((said) => said.expected - said.after, ready) },
  {
    name: 'from there on',
    errors: partError(
      (said) => said.after,
      (moved) => moved.guestMs - ready(moved),
    ),
  },
];

interface Divided {
  readonly expected: number;
  readonly after: number;
}

function partError(said: (estimate: Divided) => number, came: (moved: Moved) => number) {
  return (moved: Moved): number[] => {
    const { expected, after } = moved.suspension?.estimate ?? {};
    return expected === undefined || after === undefined
      ? []
      : [said({ expected, after }) - came(moved)];
  };
}

/** Until Commit was said, ms. */
function ready({ suspension }: Moved): number {
  const { commit: _, ...before }: Partial<SuspensionParts> = suspension?.parts ?? {};
  return Object.values(before).reduce((sum, ms) => sum + ms, 0);
}

/** One move in a line, for whoever looks for the reason of a bad figure. */
export function line(moved: Moved): string {
  const { asked, foretold, outcome, ms, guestMs, suspension, enough, message } = moved;
  const forecast = suspension?.estimate;
  const parts = Object.entries(suspension?.parts ?? {}).map(
    ([part, ms]) => `${part} ${ms.toFixed(0)}`,
  );
  const tried = enough && `; ${text(enough.ms)} ${enough.moved ? 'was' : 'was NOT'} enough`;
  const end = outcome === 'completed' ? outcome : `${outcome}: ${message}`;
  return (
    `${asked.what} ${asked.options.slice(2).join(' ')}${asked.busyMachine ? ' busy' : ''}: ` +
    `limit ${asked.limitMs}, seen ${text(guestMs)}, forecast ${span(forecast)} [${parts.join(' ')}] ` +
    `in ${text(ms)}; check: ${foretold?.verdict ?? '-'}, ${span(foretold?.suspensionMs)} in ${span(foretold?.totalMs)}; ` +
    `${end}${tried ?? ''}`
  );
}

function inWords({ asked, guestMs, outcome }: Moved): string {
  return `limit ${text(asked.limitMs)}, seen ${text(guestMs)}, ${outcome}`;
}

function excess({ asked, guestMs }: Moved): number {
  return guestMs - asked.limitMs;
}

function errorMs({ said, came }: Judged): number {
  return said.expected - came;
}

/** Of what came: median and 90th percentile. */
function relative(judged: readonly Judged[]): string {
  const errors = judged.map((one) => Math.abs(errorMs(one)) / one.came);
  return judged.length === 0
    ? '-'
    : `${percent(quantile(errors, 0.5))} in the median, ${percent(quantile(errors, 0.9))} at the 90th percentile (${judged.length})`;
}

/** In ms: how far, and to which side. */
function absolute(errors: readonly number[]): string {
  if (errors.length === 0) return '-';
  const far = errors.map(Math.abs);
  const bias = quantile(errors, 0.5);
  return `${text(quantile(far, 0.5))} in the median, ${text(quantile(far, 0.9))} at the 90th percentile; half of them ${bias < 0 ? 'more than' : 'at least'} ${text(Math.abs(bias))} ${bias < 0 ? 'too short' : 'too long'}`;
}

function inside(judged: readonly Judged[]): string {
  return of(judged.map(({ said, came }) => said.low <= came && came <= said.high));
}

function of(answers: readonly boolean[]): string {
  return `${answers.filter(Boolean).length} of ${answers.length}`;
}

function tableOf(rows: readonly Row[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, figure]) => `${name.padEnd(width)}  ${figure}`).join('\n');
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function span(said: Likely | undefined): string {
  return said ? `${text(said.expected)} (${text(said.low)} to ${text(said.high)})` : '-';
}

function text(ms: number): string {
  return formatDuration(ms);
}
