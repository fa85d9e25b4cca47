import { PAGE_SIZE } from '../memory/guest-layout.ts';
import { OUTCOME_WORDS } from '../report/turning-points.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';
import type { MigrationView } from './view.ts';

const MIN_BAR = 8;
const MAX_BAR = 30;
/** Brackets and the space after them. */
const BAR_FRAME = 3;
const GAP = '  ';

/** Something a person wants to know while it runs; on a narrow terminal the lightest go first. */
interface Fact {
  readonly text: string;
  readonly weight: number;
}

/** One plain line, for logs and pipes. */
export function progressLine(view: MigrationView): string {
  const texts = facts(view).map(({ text }) => text);
  return [formatDuration(view.elapsedMs).padStart(7), ...texts].join(GAP);
}

/** The line of a terminal `width` columns wide; never longer than that. */
export function progressBar(view: MigrationView, width: number): string {
  const kept = facts(view);
  while (kept.length > 1 && lengthOf(kept) + BAR_FRAME + MIN_BAR > width)
    kept.splice(kept.indexOf(lightest(kept)), 1);
  const bar = drawBar(view, width - lengthOf(kept) - BAR_FRAME);
  return `${bar}${kept.map(({ text }) => text).join(GAP)}`.slice(0, Math.max(0, width));
}

/** Which plain lines to print: each round, each verdict and phase, and one a second besides. */
export class LineFilter {
  #key = '';
  #printedMs = Number.NEGATIVE_INFINITY;

  wants(view: MigrationView): boolean {
    const key = `${view.phase} ${view.round} ${view.verdict?.action}`;
    const due = view.elapsedMs - this.#printedMs >= 1000;
    if (key === this.#key && !due) return false;
    // Rounds of a few milliseconds near the end would flood the page.
    if (view.elapsedMs - this.#printedMs < 100 && view.phase === 'precopy') return false;
    this.#key = key;
    this.#printedMs = view.elapsedMs;
    return true;
  }
}

/** In the order in which they are shown. */
function facts(view: MigrationView): Fact[] {
  const { outcome, phase, round, wireRate, dirtyRate, estimate, verdict } = view;
  if (outcome !== undefined) return [{ text: OUTCOME_WORDS[outcome], weight: 7 }];
  const dirty = dirtyBytes(view);
  const all: [number, string | false | undefined][] = [
    [7, phase === 'precopy' && round > 0 ? `round ${round}` : phase],
    [6, round > 0 && `${Math.floor(share(view) * 100)} %`],
    [3, wireRate > 0 && formatRate(wireRate)],
    [4, dirty >= 0 && `dirty ${formatSize(dirty)}`],
    [1, dirtyRate >= 0 && `${Math.round(dirtyRate)} pages/s`],
    [5, estimate && `suspension ~${formatDuration(estimate.expected)}`],
    [2, verdict?.action],
  ];
  return all.flatMap(([weight, text]) => (text ? [{ text, weight }] : []));
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
