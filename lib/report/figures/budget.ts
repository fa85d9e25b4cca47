import { formatDuration } from '../../units.ts';
import { timeBudget } from '../budget.ts';
import { barChart } from '../chart/bars.ts';
import type { Story } from '../story.ts';
import { percent } from '../words.ts';
import type { Figure } from './figure.ts';

/** Where the time of the whole move went. */
export function budgetFigure(story: Story): Figure | undefined {
  const parts = timeBudget(story);
  if (parts.length < 2) return undefined;
  const total = parts.reduce((sum, { ms }) => sum + ms, 0);
  const title = 'Where the time went';
  return {
    title,
    caption: `All ${formatDuration(total)} of it; every moment counts once.`,
    wide: true,
    draw: (id, width) =>
      barChart(
        {
          ...{ id, title, parts },
          description: parts.map(({ name, ms }) => `${name} ${formatDuration(ms)}`).join(', '),
        },
        width,
      ),
    legend: [],
    table: {
      head: ['what', 'time', 'share'],
      rows: parts.map(({ name, ms }) => [name, formatDuration(ms), percent(ms / total)]),
    },
  };
}
