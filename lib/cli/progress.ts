import type { DiskProgress } from '../guest/guest.ts';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { HoldView, MigrationView } from '../migration/view.ts';
import { OUTCOME_WORDS } from '../report/turning-points.ts';
import { plural } from '../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';

const MIN_BAR = 8;
const MAX_BAR = 30;
/** Brackets and the space after them. */
const BAR_FRAME = 3;
const GAP = '  ';

/** How a fact is to be taken: said by colour where there is any. */
type Tone = 'good' | 'careful' | 'bad';

/** Gives a text the colour of its tone. */
export type Paint = (text: string, tone: Tone) => string;

/** Something a person wants to know while it runs; on a narrow terminal the lightest go first. */
interface Fact {
  readonly text: string;
  readonly weight: number;
  readonly tone?: Tone | undefined;
}

const COLOURS: Readonly<Record<Tone, number>> = { good: 32, careful: 33, bad: 31 };

/** For a terminal that knows colours. */
export const inColour: Paint = (text, tone) => `\x1b[${COLOURS[tone]}m${text}\x1b[39m`;
const plain: Paint = (text) => text;

/** One plain line, for logs and pipes. */
export function progressLine(view: MigrationView): string {
  const texts = facts(view).map(({ text }) => text);
  return [formatDuration(view.elapsedMs).padStart(7), ...texts].join(GAP);
}

/** The line of a terminal `width` columns wide; never longer than that. */
export function progressBar(view: MigrationView, width: number, paint = plain): string {
  const kept = [...elapsed(view), ...facts(view)];
  while (kept.length > 1 && lengthOf(kept) + BAR_FRAME + MIN_BAR > width)
    kept.splice(kept.indexOf(lightest(kept)), 1);
  const bar = drawBar(view, width - lengthOf(kept) - BAR_FRAME);
  const fits = kept.map((fact) => ({ ...fact, text: fact.text.slice(0, Math.max(0, width)) }));
  return `${bar && paint(bar, toneOf(view))}${fits.map(({ text, tone }) => (tone ? paint(text, tone) : text)).join(GAP)}`;
}

const SECOND = 1000;
const HELD_MS = 60 * SECOND;

/**
 * Which plain lines to print: each round, each verdict and phase, and one a second besides; one a
 * minute of a guest that is held and ready; one of each outcome.
 */
export class LineFilter {
  #key = '';
  #outcome: MigrationView['outcome'];
  #printedMs = Number.NEGATIVE_INFINITY;

  wants(view: MigrationView): boolean {
    // It is known before everything of the migration is let go, and that is told apart by phases only.
    const isOutcome = view.outcome !== this.#outcome;
    this.#outcome = view.outcome;
    if (view.outcome !== undefined) return isOutcome;
    // A guest that is held may be so for days.
    const { ready } = view.hold ?? {};
    const key = ready
      ? `${view.phase} held`
      : `${view.phase} ${view.round} ${view.verdict?.action} ${view.outageMs !== undefined}`;
    const due = view.elapsedMs - this.#printedMs >= (ready ? HELD_MS : SECOND);
    if (key === this.#key && !due) return false;
    // Rounds of a few milliseconds near the end would flood the page.
    if (view.elapsedMs - this.#printedMs < 100 && view.phase === 'precopy') return false;
    this.#key = key;
    this.#printedMs = view.elapsedMs;
    return true;
  }
}

/** Of what has ended the summary tells. */
function elapsed({ elapsedMs, outcome }: MigrationView): Fact[] {
  return outcome === undefined ? [{ text: shortTime(elapsedMs), weight: 5 }] : [];
}

/** In the order in which they are shown. */
function facts(view: MigrationView): Fact[] {
  const { outcome, round, disks, wireRate, dirtyRate, estimate, verdict, hold, outageMs } = view;
  if (outcome !== undefined)
    return [
      { text: OUTCOME_WORDS[outcome], weight: 9, tone: outcome === 'completed' ? 'good' : 'bad' },
    ];
  const dirty = dirtyBytes(view);
  const isLost = outageMs !== undefined;
  const all: [number, string | false | undefined, (Tone | undefined)?][] = [
    [9, phaseText(view)],
    [6, !isLost && disks && diskText(disks, wireRate)],
    [10, isLost && `connection lost, ${shortTime(outageMs)}`, 'bad'],
    [8, round > 0 && `${Math.floor(share(view) * 100)} %`],
    [6, !isLost && leftText(view)],
    [3, !isLost && wireRate > 0 && formatRate(wireRate)],
    [4, dirty >= 0 && `dirty ${formatSize(dirty)}`],
    [1, dirtyRate >= 0 && `${Math.round(dirtyRate)} pages/s`],
    [7, estimate && `suspension ~${formatDuration(estimate.expected)}`, forecastTone(view)],
    [hold ? 8 : 2, hold ? holdText(hold) : verdict?.action],
  ];
  return all.flatMap(([weight, text, tone]) => (text ? [{ text, weight, tone }] : []));
}

function phaseText({ phase, round, disks }: MigrationView): string {
  if (disks !== undefined) return plural(disks.names.length, 'disk');
  return phase === 'precopy' && round > 0 ? `round ${round}` : phase;
}

/** `vda 1.2 of 8 GiB, 4 m 10 s at most`: what is all zeros takes no time. */
function diskText({ names, copied, total }: DiskProgress, rate: number): string {
  const far = `${names.join(', ')} ${formatSize(copied)} of ${formatSize(total)}`;
  const ms = ((total - copied) / rate) * SECOND;
  return copied < total && rate > 0 ? `${far}, ${shortTime(ms)} at most` : far;
}

/** `20 MiB left, 4 s`: of the running round, at the pace at which it drains. */
function leftText(view: MigrationView): string | undefined {
  const { phase, round, roundPages, roundSent, drainRate, hold } = view;
  const left = Math.max(0, roundPages - roundSent) * PAGE_SIZE;
  if (phase !== 'precopy' || round === 0 || left === 0 || hold?.ready) return undefined;
  const ms = (left / drainRate) * SECOND;
  const eta = drainRate > 0 ? `, ${ms < SECOND ? '< 1 s' : shortTime(ms)}` : '';
  return `${formatSize(left)} left${eta}`;
}

/** Whole seconds, minutes, hours: `4 s`, `2 m 05 s`, `1 h 02 m`. */
function shortTime(ms: number): string {
  return ms < 60_000 ? `${Math.floor(ms / SECOND)} s` : formatDuration(ms);
}

function forecastTone({ estimate, limits }: MigrationView): Tone | undefined {
  if (estimate === undefined || limits?.maxSuspendMs === undefined) return undefined;
  return estimate.expected <= limits.maxSuspendMs ? 'good' : 'careful';
}

function toneOf({ outageMs, hold }: MigrationView): Tone {
  if (outageMs !== undefined) return 'bad';
  return hold !== undefined && !hold.ready ? 'careful' : 'good';
}

/** `held until 2026-11-30 02:00, 2.5 MiB a minute`. */
function holdText({ until, ready, wirePerMinute }: HoldView): string {
  const cost = wirePerMinute === undefined ? '' : `, ${formatSize(wirePerMinute)} a minute`;
  return `${ready ? 'held' : 'held, not ready,'} ${until}${cost}`;
}

/** What a suspension now would have to send; between two syncs the set that is being sent. */
function dirtyBytes({ dirtyPages, round, roundPages }: MigrationView): number {
  if (dirtyPages >= 0) return dirtyPages * PAGE_SIZE;
  return round > 1 ? roundPages * PAGE_SIZE : -1;
}

/** Share of the running round that is sent, 0 to 1. */
function share({ roundPages, roundSent }: MigrationView): number {
  return roundPages === 0 ? 0 : Math.min(1, roundSent / roundPages);
}

/** Empty when there is no room for it, or nothing to fill it with. */
function drawBar(view: MigrationView, room: number): string {
  if (room < MIN_BAR || view.round === 0 || view.outcome !== undefined) return '';
  const width = Math.min(room, MAX_BAR);
  const filled = Math.round(share(view) * width);
  return `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}] `;
}

function lengthOf(kept: readonly Fact[]): number {
  return kept.map(({ text }) => text).join(GAP).length;
}

function lightest(kept: readonly Fact[]): Fact {
  return kept.reduce((least, fact) => (fact.weight < least.weight ? fact : least));
}
