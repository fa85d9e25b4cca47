import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { formatRate, formatSize } from '../../units.ts';
import type { Point, Series } from '../chart/lines.ts';
import type { Story } from '../story.ts';
import { count, isFigure } from '../words.ts';
import { data, type Figure, roundFigure } from './figure.ts';

/** Pages in the dirty set at the start of each round, and what was left when it ended. */
export function remainingFigure(story: Story): Figure | undefined {
  const points = dirtyByRound(story);
  if (points.length < 2) return undefined;
  const series: Series[] = [data('to send', 'main', points, 'dot')];
  const { policy, limits } = story.start;
  if (policy === 'xen' && isFigure(limits.minRemaining) && limits.minRemaining > 0)
    series.push({
      name: `min-remaining ${count(limits.minRemaining)}`,
      tone: 'quiet',
      points: [[1, limits.minRemaining]],
      shape: 'step',
      stroke: 'dashed-guide',
    });
  const last = story.rounds.find(({ stopAndCopy }) => stopAndCopy);
  if (last !== undefined)
    series.push({
      name: `suspended ${count(last.dirtyPages)}`,
      tone: 'second',
      points: [[last.round, last.dirtyPages]],
      shape: 'line',
      stroke: 'data',
      mark: 'diamond',
    });
  return roundFigure(series, {
    title: 'Remaining pages by round',
    caption: 'Pages that each round set out to send. Falling is converging.',
    quantity: 'count',
    table: {
      head: ['round', 'pages to send', 'memory'],
      rows: points.map(([round, pages]) => [
        count(round),
        count(pages),
        formatSize(pages * PAGE_SIZE),
      ]),
    },
  });
}

/** How fast the guest writes against how fast the link drains, in guest memory. */
export function dirtyRateFigure({ consultations }: Story): Figure | undefined {
  const before = consultations.filter(
    ({ stats }) => stats.when === 'before-round' && stats.iteration > 0,
  );
  const dirty = before
    .filter(({ stats }) => isFigure(stats.dirtyRate) && stats.dirtyRate >= 0)
    .map(({ stats }): Point => [stats.iteration, stats.dirtyRate * PAGE_SIZE]);
  const drain = before
    .filter(({ stats }) => isFigure(stats.drainRate) && stats.drainRate > 0)
    .map(({ stats }): Point => [stats.iteration, stats.drainRate]);
  if (dirty.length === 0) return undefined;
  const drainAt = new Map(drain);
  return roundFigure(
    [data('guest writes', 'second', dirty, 'dot'), data('sent', 'main', drain, 'dot')],
    {
      title: 'Dirty rate by round',
      caption: 'Memory that the guest writes in a second, beside what the agents send in one.',
      quantity: 'rate',
      table: {
        head: ['round', 'dirty pages a second', 'dirty rate', 'drain rate'],
        rows: dirty.map(([round, rate]) => [
          count(round),
          count(rate / PAGE_SIZE),
          formatRate(rate),
          drainAt.has(round) ? formatRate(drainAt.get(round)!) : '–',
        ]),
      },
    },
  );
}

/** Dirty counts at the start of each round: from the records of rounds, and of one never sent. */
function dirtyByRound({ rounds, consultations }: Story): Point[] {
  const known = new Map<number, number>();
  for (const { stats } of consultations)
    if (stats.when === 'before-round' && stats.dirtyCount >= 0)
      known.set(stats.iteration + 1, stats.dirtyCount);
  for (const { round, dirtyPages } of rounds) known.set(round, dirtyPages);
  return [...known].sort(([a], [b]) => a - b);
}
