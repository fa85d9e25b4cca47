import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { EncodingCounts } from '../pages/counters.ts';
import type { PolicyLimits } from '../precopy/stats.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';
import { amongInWords, suspensionsAmong } from './among.ts';
import { foretoldText } from './foretold-text.ts';
import { judgePromise, type Promised } from './promise.ts';
import type {
  ConsultationRecord,
  CpuTimes,
  DisksRecord,
  ForecastRecord,
  LedgerRecord,
  Outcome,
  PastSuspension,
  SuspensionRecord,
} from './records.ts';
import { type Held, heldIn, type Story, tellStory } from './story.ts';
import { OUTCOME_WORDS, type TurningPoint, turningPoints, where } from './turning-points.ts';
import { isFigure, labelled, percent, plural, shortDuration } from './words.ts';

/** A migration in figures. Times in ms, rates in bytes per second. */
export interface Summary {
  readonly id: string;
  readonly guest: string;
  readonly destination: string;
  readonly policy: string;
  /** Wall clock of the start, ISO 8601. */
  readonly time: string;
  readonly outcome: Outcome | 'running';
  readonly code: string | undefined;
  readonly message: string;
  readonly rounds: number;
  readonly elapsedMs: number;
  readonly totalPages: number;
  /** Pages sent in all rounds, a page counted each time. */
  readonly pages: number;
  readonly guestBytes: number;
  readonly wireBytes: number;
  /** Wire bytes for one guest byte; undefined when nothing was sent. */
  readonly wireRatio: number | undefined;
  /** Mean over the time that rounds took, on the wire; undefined when none ended. */
  readonly wireRate: number | undefined;
  /** The same in guest memory. */
  readonly guestRate: number | undefined;
  readonly encodings: EncodingCounts;
  /** Undefined where the ledger does not tell. */
  readonly cpu: CpuTimes | undefined;
  /** Disks that went with the guest; undefined when none did. */
  readonly disks: CopiedWith | undefined;
  /** Undefined when the guest never was. */
  readonly held: Held | undefined;
  readonly suspension: SuspensionRecord | undefined;
  /** Suspensions of the guest, this one last; undefined when there is none to compare it with. */
  readonly among: readonly PastSuspension[] | undefined;
  /** What was to be expected before it began, and under which limits. */
  readonly foretold:
    | { readonly forecast: ForecastRecord; readonly limits: PolicyLimits }
    | undefined;
  readonly promise: Promised | undefined;
  readonly turningPoints: readonly TurningPoint[];
}

/** Disks of a move: what they have cost on the wire in all, and how they were copied, if they were. */
export interface CopiedWith {
  readonly bytes: number;
  readonly copied: Pick<DisksRecord, 'names' | 'ms'> | undefined;
}

export const ENCODINGS = ['zero', 'same', 'copy', 'delta', 'raw'] as const;

export function summarize(records: readonly LedgerRecord[]): Summary {
  const story = tellStory(records);
  const { start, end, rounds } = story;
  const sent = totals(story);
  const sendingMs = sum(rounds.map(({ ms }) => ms));
  const inRounds = {
    wire: sum(rounds.map(({ wireBytes }) => wireBytes)),
    guest: sum(rounds.map(({ sentPages }) => sentPages)) * PAGE_SIZE,
  };
  const guestBytes = sent.pages * PAGE_SIZE;
  return {
    id: start.id,
    guest: start.guest,
    destination: start.destination,
    policy: start.policy,
    time: start.time,
    outcome: end?.outcome ?? 'running',
    code: end?.code,
    message: end?.message ?? '',
    rounds: end?.rounds ?? rounds.length,
    elapsedMs: story.until,
    totalPages: start.totalPages,
    ...sent,
    guestBytes,
    wireRatio: guestBytes > 0 ? sent.wireBytes / guestBytes : undefined,
    wireRate: sendingMs > 0 ? (inRounds.wire * 1000) / sendingMs : undefined,
    guestRate: sendingMs > 0 ? (inRounds.guest * 1000) / sendingMs : undefined,
    cpu: cpuIn(story),
    disks: disksIn(story),
    held: heldIn(story),
    suspension: story.suspension,
    among: suspensionsAmong(story),
    foretold: story.foretold && { forecast: story.foretold, limits: start.limits },
    promise: judgePromise(story),
    turningPoints: turningPoints(story),
  };
}

/** Pages by encoding, largest first, as `raw 52 %, zero 40 %`; those that did not occur left out. */
export function sharesInWords(encodings: EncodingCounts): string {
  const total = sum(ENCODINGS.map((name) => encodings[name] ?? 0));
  return [...ENCODINGS]
    .filter((name) => encodings[name] > 0)
    .sort((a, b) => encodings[b] - encodings[a])
    .map((name) => `${name} ${percent(encodings[name] / total)}`)
    .join(', ');
}

/** The promise and what became of it, one sentence. */
export function promiseInWords(promise: Promised): string {
  const { result, limitMs, actualMs = 0, by, spareMs = 0, enoughMs } = promise;
  const promised = `promised ≤ ${shortDuration(limitMs)}`;
  const saw = `${by === 'guest' ? 'guest saw' : 'agents timed'} ${formatDuration(actualMs)}`;
  const enough = isFigure(enoughMs) ? `; ${Math.ceil(enoughMs)} ms would have been enough` : '';
  switch (result) {
    case 'kept':
      return `${promised}, ${saw}: kept with ${formatDuration(spareMs)} to spare`;
    case 'missed':
      return `${promised}, ${saw}: missed by ${formatDuration(-spareMs)}${enough}`;
    case 'rolled-back':
      return `${promised}: could not be kept, rolled back; ${saw}${enough}`;
    case 'never-suspended':
      return `${promised}: guest never suspended${enough}`;
  }
}

/** What the command line prints at the end: label column and sentences, no trailing newline. */
export function summaryText(summary: Summary): string {
  const { outcome, code, promise, turningPoints } = summary;
  const verdict = turningPoints.find(({ what }) => /^(Stop-and-copy|Given up) /.test(what));
  return labelled([
    ['outcome', OUTCOME_WORDS[outcome] + (code === undefined ? '' : ` (${code})`)],
    ['', outcome === 'completed' ? undefined : summary.message || undefined],
    ['move', moveInWords(summary)],
    ['held', summary.held && heldInWords(summary.held)],
    ['suspension', promise && promiseInWords(promise)],
    [promise ? '' : 'suspension', summary.suspension && clocksInWords(summary.suspension)],
    ['among', summary.among && amongInWords(summary.among)],
    ['foretold', foretoldInWords(summary)],
    ['disks', summary.disks && disksInWords(summary.disks)],
    ['sent', sentInWords(summary)],
    ['rate', ratesInWords(summary)],
    ['pages', sharesInWords(summary.encodings) || undefined],
    ['why', verdict && `${verdict.what}: ${verdict.why}`],
  ]);
}

function moveInWords({ guest, destination, elapsedMs, rounds }: Summary): string {
  return `${guest} → ${destination}, ${plural(rounds, 'round')} in ${formatDuration(elapsedMs)}`;
}

/** `vda copied in 2 m 05 s, 8.1 GiB on the wire`. */
export function disksInWords({ bytes, copied }: CopiedWith): string {
  const how =
    copied === undefined
      ? 'not copied'
      : `${copied.names.join(', ')} copied in ${formatDuration(copied.ms)}`;
  return `${how}, ${formatSize(bytes)} on the wire`;
}

/** `2 h 03 m for 310 MiB on the wire, 2.5 MiB a minute`. */
export function heldInWords({ ms, wireBytes }: Held): string {
  const aMinute = ms >= 1000 ? `, ${formatSize((wireBytes * 60_000) / ms)} a minute` : '';
  return `${formatDuration(ms)} for ${formatSize(wireBytes)} on the wire${aMinute}`;
}

/** What was to be expected, without what nobody knew. */
export function foretoldInWords({ foretold }: Summary): string | undefined {
  if (foretold === undefined) return undefined;
  const by = foretold.forecast.by === 'check' ? 'by a check: ' : '';
  return `${by}${foretoldText(foretold.forecast, foretold.limits)}`;
}

function clocksInWords({ estimate, agentMs, guestMs }: SuspensionRecord): string {
  const parts = [`agents timed ${formatDuration(agentMs)}`];
  if (estimate !== undefined && isFigure(estimate.expected))
    parts.unshift(`forecast ${forecastInWords(estimate)}`);
  if (!isFigure(guestMs)) parts.push('the guest could not tell');
  return parts.join(', ');
}

/** `38 ms (28 ms to 60 ms)`. */
export function forecastInWords(estimate: { low: number; expected: number; high: number }): string {
  const { low, expected, high } = estimate;
  if (!isFigure(expected)) return '–';
  const range =
    isFigure(low) && isFigure(high) ? ` (${formatDuration(low)} to ${formatDuration(high)})` : '';
  return `${formatDuration(expected)}${range}`;
}

/** `after round 5, 4.10 s after the start, forecast 610 ms (540 ms to 690 ms)`. */
export function momentInWords(stats: ConsultationRecord['stats']): string {
  const { elapsedMs, estimate } = stats;
  const forecast = estimate === undefined ? '' : `, forecast ${forecastInWords(estimate)}`;
  return `${where(stats)}, ${formatDuration(elapsedMs)} after the start${forecast}`;
}

function sentInWords({ wireBytes, guestBytes, wireRatio }: Summary): string | undefined {
  if (wireRatio === undefined) return undefined;
  const share = wireRatio < 10 ? ` (${percent(wireRatio)})` : '';
  return `${formatSize(wireBytes)} on the wire for ${formatSize(guestBytes)} of guest memory${share}`;
}

function ratesInWords({ wireRate, guestRate }: Summary): string | undefined {
  if (wireRate === undefined || guestRate === undefined) return undefined;
  return `${formatRate(wireRate)} on the wire, ${formatRate(guestRate)} of guest memory`;
}

/** Without an end record the last consultation and the rounds say how far it came. */
function totals({ end, rounds, consultations }: Story) {
  if (end !== undefined)
    return { pages: end.pages, wireBytes: end.wireBytes, encodings: end.encodings };
  const last = consultations.at(-1)?.stats;
  return {
    pages: Math.max(last?.totalWritten ?? 0, sum(rounds.map(({ sentPages }) => sentPages))),
    wireBytes: Math.max(last?.wireBytes ?? 0, sum(rounds.map(({ wireBytes }) => wireBytes))),
    encodings: addEncodings(rounds.map(({ encodings }) => encodings)),
  };
}

function disksIn({ end, disks }: Story): CopiedWith | undefined {
  const bytes = end?.diskBytes ?? disks?.bytes;
  return bytes === undefined ? undefined : { bytes, copied: disks };
}

function cpuIn({ end, consultations }: Story): CpuTimes | undefined {
  const cpu = end?.cpu ?? consultations.findLast((one) => one.cpu !== undefined)?.cpu;
  return isFigure(cpu?.sourceMs) ? cpu : undefined;
}

function addEncodings(all: readonly EncodingCounts[]): EncodingCounts {
  const total = { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 };
  for (const counts of all) for (const name of ENCODINGS) total[name] += counts[name] ?? 0;
  return total;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
