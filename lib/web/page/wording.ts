import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { standing, stateWord } from '../../migration/standing.ts';
import type { MigrationView } from '../../migration/view.ts';
import { enforcedSuspendMs } from '../../precopy/stats.ts';
import type { PastMigration } from '../../report/history.ts';
import { count, isFigure, limitsInWords, plural, shortDuration } from '../../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../../units.ts';
import { sampleOf } from '../samples.ts';

/** Classes of the report's style sheet, and one for what runs. */
export type Tone = 'good' | 'bad' | 'open' | 'runs';

/** A migration in the list. */
export interface Row {
  /** Empty where there is no migration yet. */
  readonly id: string;
  readonly guest: string;
  readonly peer: string;
  readonly startedAt: string;
  readonly isOver: boolean;
  readonly word: string;
  readonly tone: Tone;
  /** What matters most about it now. */
  readonly line: string;
  /** Of the running round that is sent, 0 to 1; undefined while nothing is sent. */
  readonly share: number | undefined;
}

/** A figure with a name and a remark. */
export type Fact = readonly [name: string, figure: string, note: string];

export function rowOf(view: MigrationView): Row {
  const { id, guest, peer, startedAt, phase, round, roundPages, roundSent } = view;
  const isOver = phase === 'ended';
  const isSent = isSending(view) && round > 0 && roundPages > 0;
  return {
    ...{ id, guest, peer, startedAt, isOver, tone: toneOf(view) },
    word: wordOf(view),
    line: isOver ? endInWords(view) : nowInWords(view),
    share: isSent ? Math.min(1, roundSent / roundPages) : undefined,
  };
}

function wordOf(view: MigrationView): string {
  const { outcome, outageMs, phase, round, hold } = view;
  if (outcome === undefined && outageMs !== undefined) return 'connection lost';
  return phase === 'precopy' && round > 0 && !hold ? `round ${round}` : stateWord(view);
}

/** Pages are on their way, or may be at any moment. */
function isSending({ phase, outcome }: MigrationView): boolean {
  return outcome === undefined && phase !== 'ended' && phase !== 'recovery';
}

/** One that the daemon tells of from its ledger only. */
export function rowOfPast(past: PastMigration): Row {
  const { id, guest, destination: peer, time: startedAt, outcome, ms, suspensionMs } = past;
  const isDone = outcome === 'completed';
  return {
    ...{ id, guest, peer, startedAt, isOver: true, word: outcome, share: undefined },
    tone: isDone ? 'good' : outcome === 'cancelled' ? 'open' : 'bad',
    line: lineOf([isFigure(suspensionMs) && suspended(suspensionMs), since(startedAt, ms)]),
  };
}

export function toneOf({ outcome, outageMs }: MigrationView): Tone {
  if (outcome === undefined) return outageMs === undefined ? 'runs' : 'bad';
  if (outcome === 'completed') return 'good';
  return outcome === 'cancelled' ? 'open' : 'bad';
}

/** What the policy says, or what stands in the way of asking it. */
export function reasonOf(view: MigrationView): string {
  const { role, outcome, message, outageMs, verdict, waitsFor, hold } = view;
  if (outcome === 'needs-resolve') return sentence(`waits for ${waitsFor ?? 'a person to decide'}`);
  if (outcome !== undefined) return sentence(message ?? '');
  if (outageMs !== undefined)
    return `Connection lost, ${formatDuration(outageMs)} ago. ${role === 'send' ? 'It' : 'By the sender it'} is tried again.`;
  if (waitsFor !== undefined) return sentence(`waits for ${waitsFor}`);
  if (hold !== undefined)
    return `${sentence(`held ${hold.until}${hold.ready ? '' : '; not ready yet'}`)} ${sentence(verdict?.reason ?? '')}`;
  return sentence(verdict?.reason ?? '');
}

/** Who has the guest, and what a person can do where nothing goes on without one. */
export function standsOf(view: MigrationView): string {
  const agent = view.role === 'send' ? 'agent-send' : 'agent-recv';
  const stuck = view.outcome === 'needs-resolve' && view.phase !== 'ended';
  const todo = stuck
    ? `On this host, ${agent} resolve ${view.id} explains what can be decided.`
    : '';
  return joined([sentence(standing(view) ?? ''), sentence(view.decision ?? ''), todo], ' ');
}

/** Limits and caps that hold now. */
export function termsOf({ limits, policy, ...caps }: MigrationView): string {
  if (limits === undefined) return '';
  return sentence(`${policy} policy: ${limitsInWords(limits, caps, policy as 'contract')}`);
}

export function factsOf(view: MigrationView): Fact[] {
  const { elapsedMs, round, wireRate, wireBytes, dirtyRate, reconnects, hold, suspension } = view;
  const again = reconnects > 0 ? plural(reconnects, 'reconnect') : '';
  const sending: (Fact | false)[] = [
    leftFact(view),
    dirtyRate >= 0 && [
      'Made dirty',
      formatRate(dirtyRate * PAGE_SIZE),
      `${count(dirtyRate)} pages/s`,
    ],
    ['On the wire', formatRate(wireRate), joined([`${formatSize(wireBytes)} so far`, again])],
    forecastFact(view),
  ];
  const all: (Fact | false)[] = [
    ['Elapsed', formatDuration(elapsedMs), round > 0 ? plural(round, 'round') : ''],
    ...(isSending(view) ? sending : [wireBytes > 0 && sentFact(wireBytes, again)]),
    hold !== undefined && [
      'Held',
      hold.ready ? formatDuration(hold.ms) : 'not ready',
      isFigure(hold.wirePerMinute) ? `${formatSize(hold.wirePerMinute)} a minute` : '',
    ],
    suspension !== undefined && [
      'Guest suspended',
      formatDuration(suspension.guestMs ?? suspension.agentMs),
      isFigure(suspension.limitMs) ? `limit ${shortDuration(suspension.limitMs)}` : '',
    ],
  ];
  return all.filter((fact) => fact !== false);
}

function sentFact(wireBytes: number, again: string): Fact {
  return ['On the wire', formatSize(wireBytes), again];
}

/** What is worth saying aloud: changes of it are few. */
export function turnOf(view: MigrationView): string {
  const { guest, outageMs, outcome, phase, hold } = view;
  if (outageMs !== undefined) return `${guest}: connection lost`;
  if (outcome !== undefined) return `${guest}: ${stateWord(view)}. ${reasonOf(view)}`;
  return `${guest}: ${hold ? `held ${hold.until}` : phase}`;
}

function leftFact(view: MigrationView): Fact | false {
  const { left } = sampleOf(view);
  if (left === null) return false;
  const { drainRate, roundPages, hold } = view;
  const ms = drainRate > 0 && !hold?.ready ? (left / drainRate) * 1000 : undefined;
  const of = hold?.ready
    ? 'dirty at the last look'
    : `of ${formatSize(roundPages * PAGE_SIZE)} in this round`;
  return ['Remaining', formatSize(left), `${of}${isFigure(ms) ? `, ${eta(ms)}` : ''}`];
}

function forecastFact({ estimate, limits }: MigrationView): Fact | false {
  if (!isFigure(estimate?.expected)) return false;
  const { low, high, expected } = estimate;
  const limit = limits && enforcedSuspendMs(limits);
  const range =
    isFigure(low) && isFigure(high) ? `${formatDuration(low)} to ${formatDuration(high)}` : '';
  const note = [range, isFigure(limit) ? `limit ${shortDuration(limit)}` : 'no limit'];
  return ['Suspension now', formatDuration(expected), joined(note, '; ')];
}

function nowInWords(view: MigrationView): string {
  const { outageMs, estimate, limits, hold, outcome } = view;
  if (outcome === 'needs-resolve') return 'waits for a person';
  if (outageMs !== undefined) return `connection lost, ${formatDuration(outageMs)}`;
  const left = leftFact(view);
  const limit = limits && enforcedSuspendMs(limits);
  const forecast = isFigure(estimate?.expected) && `forecast ${formatDuration(estimate.expected)}`;
  return lineOf([
    hold?.until,
    hold === undefined && left && `${left[1]} left`,
    forecast && (isFigure(limit) ? `${forecast} of ${shortDuration(limit)}` : forecast),
  ]);
}

function endInWords({ suspension, elapsedMs, startedAt }: MigrationView): string {
  const ms = suspension && (suspension.guestMs ?? suspension.agentMs);
  return lineOf([isFigure(ms) && suspended(ms), since(startedAt, elapsedMs)]);
}

function suspended(ms: number): string {
  return `suspended ${formatDuration(ms)}`;
}

function since(startedAt: string, ms: number | undefined): string {
  const at = new Date(startedAt).toLocaleString([], { dateStyle: 'short', timeStyle: 'short' });
  return isFigure(ms) ? `${formatDuration(ms)}, ${at}` : at;
}

function eta(ms: number): string {
  return ms < 1000
    ? 'less than 1 s'
    : `about ${ms < 60_000 ? `${Math.round(ms / 1000)} s` : formatDuration(ms)}`;
}

function lineOf(texts: readonly (string | false | undefined)[]): string {
  return joined(texts, ' · ');
}

/** Those that there are. */
function joined(texts: readonly (string | false | undefined)[], by = ', '): string {
  return texts.filter((text) => text).join(by);
}

/** With a capital and a full stop. */
export function sentence(text: string): string {
  return text && `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, '')}.`;
}
