import { formatDuration } from '../../units.ts';
import { hasLimit, isForetold, isInside, isKept, shareOf, suspensionsAmong } from '../among.ts';
import { amongChart } from '../chart/among.ts';
import type { PastSuspension } from '../records.ts';
import type { Story } from '../story.ts';
import { forecastInWords } from '../summary.ts';
import { isFigure, shortDuration } from '../words.ts';
import type { Figure, LegendEntry } from './figure.ts';

/** This suspension among those of the guest before it. */
export function amongFigure(story: Story): Figure | undefined {
  const all = suspensionsAmong(story);
  if (all === undefined) return undefined;
  const { guest } = story.start;
  const title = `This move among the last ${all.length} of ${guest}`;
  const kept = all.some(hasLimit) ? `${shareOf(all, hasLimit, isKept)} kept their limit` : '';
  const inside = all.some(isForetold)
    ? `${shareOf(all, isForetold, isInside)} lay inside their forecast`
    : '';
  const found = [kept, inside].filter((text) => text !== '').join(', ');
  const shown = all.map((one, i) => ({
    ...one,
    name: i === all.length - 1 ? 'this move' : when(one),
    limitMs: isFigure(one.limitMs) ? one.limitMs : undefined,
    forecast: hasFigures(one) ? one.forecast : undefined,
  }));
  return {
    title,
    caption: `How long the guest was suspended when it left this host, the oldest first${found && `: ${found}`}.`,
    wide: true,
    draw: (id, width) =>
      amongChart(
        {
          ...{ id, title, all: shown, since: when(all[0]!).slice(0, 10) },
          description: `${guest}: ${shown.map(({ name, ms }) => `${name} ${formatDuration(ms)}`).join(', ')}`,
        },
        width,
      ),
    legend: legend(shown),
    table: {
      head: ['when', 'suspended', 'limit', 'forecast (low to high)', 'ended'],
      rows: shown.map(({ name, ms, limitMs, forecast, moved }) => [
        name,
        formatDuration(ms),
        limitMs === undefined ? '–' : shortDuration(limitMs),
        forecast === undefined ? '–' : forecastInWords(forecast),
        moved ? 'moved' : 'rolled back',
      ]),
    },
  };
}

/** `2026-01-02 03:04`, by the clock that ledgers are written by. */
function when({ time }: PastSuspension): string {
  return time.slice(0, 16).replace('T', ' ');
}

function hasFigures({ forecast }: PastSuspension): boolean {
  return forecast !== undefined && Object.values(forecast).every(isFigure);
}

function legend(all: readonly PastSuspension[]): LegendEntry[] {
  const entries: [boolean, string, string][] = [
    [all.some(({ moved }) => moved), 'suspended', 'swatch-diamond ink-second'],
    [all.some(({ moved }) => !moved), 'rolled back', 'swatch-hollow ink-second'],
    [all.some(hasFigures), 'forecast, low to high', 'swatch-band ink-main'],
    [all.some(hasLimit), 'limit', 'swatch-line solid-guide ink-alarm'],
  ];
  return entries.flatMap(([is, text, swatch]) => (is ? [{ text, swatch }] : []));
}
