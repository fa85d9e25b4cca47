import { PAGE_SIZE } from '../memory/guest-layout.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';
import type { MigrationView } from './view.ts';

const BAR_WIDTH = 20;

/** Share of the running round that is sent, 0 to 1. */
function share({ roundPages, roundSent }: MigrationView): number {
  return roundPages === 0 ? 0 : Math.min(1, roundSent / roundPages);
}

/** What a person wants to know while it runs, the most important first. */
function facts(view: MigrationView): string[] {
  const { round, wireRate, dirtyPages, dirtyRate, estimate, verdict } = view;
  const dirty =
    dirtyPages >= 0 ? dirtyPages * PAGE_SIZE : view.round > 1 ? view.roundPages * PAGE_SIZE : -1;
  return [
    round === 0 ? view.phase : `${view.phase} round ${round}`,
    round === 0 ? '' : `${Math.floor(share(view) * 100)} %`,
    wireRate > 0 ? formatRate(wireRate) : '',
    dirty >= 0 ? `dirty ${formatSize(dirty)}` : '',
    dirtyRate >= 0 ? `(${Math.round(dirtyRate)} pages/s)` : '',
    estimate ? `suspension about ${formatDuration(estimate.expected)}` : '',
    verdict ? `${verdict.action}` : '',
  ].filter((fact) => fact !== '');
}

/** One plain line, for logs and pipes. */
export function progressLine(view: MigrationView): string {
  return `${formatDuration(view.elapsedMs).padStart(7)}  ${facts(view).join('  ')}`;
}

/** The bar of a terminal `width` columns wide; never longer than that. */
export function progressBar(view: MigrationView, width: number): string {
  const filled = Math.round(share(view) * BAR_WIDTH);
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
  const line = [view.guest, bar, ...facts(view)].join(' ');
  return line.length <= width ? line : line.slice(0, Math.max(0, width));
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
