import type { PolicyLimits } from '../../precopy/stats.ts';
import { formatDuration } from '../../units.ts';
import { type LineChart, lineChart, type Point, type Series } from '../chart/lines.ts';
import { seenMs } from '../promise.ts';
import type { SuspensionRecord } from '../records.ts';
import type { Story } from '../story.ts';
import { forecastInWords } from '../summary.ts';
import { count, isFigure, shortDuration } from '../words.ts';
import { data, type Figure, seriesLegend, timeChart } from './figure.ts';

/** The forecast over time with everything it is measured against: the heart of the contract. */
export function forecastFigure(story: Story, events: LineChart['events'] = []): Figure | undefined {
  const forecasts = story.consultations.flatMap(({ at, stats: { estimate } }) =>
    estimate !== undefined && isFigure(estimate.expected) ? [{ at, estimate }] : [],
  );
  if (forecasts.length === 0) return undefined;
  const points = forecasts.map(({ at, estimate }): Point => [at, estimate.expected]);
  const series: Series[] = [data('forecast', 'main', points)];
  series.push(...guides(story));
  if (story.suspension !== undefined) series.push(actual(story.suspension));
  const chart = timeChart(
    story,
    events,
    {
      title: 'Forecast and actual suspension',
      description: `Forecast of the suspension over time, ${forecasts.length} consultations.`,
      yQuantity: 'duration',
      series,
      band: {
        tone: 'main',
        points: forecasts.map(({ at, estimate: { low, high } }) => [at, low, high] as const),
      },
    },
    // Before the guest's first sync nothing is known: a long first round would be an empty chart.
    forecasts[0]!.at < story.until / 4 ? 0 : forecasts[0]!.at,
  );
  const rows = story.consultations
    .filter(({ stats }) => stats.when === 'before-round' && stats.estimate !== undefined)
    .map(({ at, stats: { iteration, estimate } }) => [
      formatDuration(at),
      count(iteration),
      forecastInWords(estimate!),
      isFigure(estimate!.fixed) ? formatDuration(estimate!.fixed) : '–',
    ]);
  return {
    title: chart.title,
    caption:
      'What a suspension would have taken, had it begun then, and how uncertain that was. There is no forecast before the first round is done.',
    wide: true,
    draw: (id, width) => lineChart({ ...chart, id }, width, width > 600 ? 340 : 280),
    legend: seriesLegend(series),
    legendAlways: false,
    table: { head: ['time', 'rounds done', 'forecast (low to high)', 'of it fixed'], rows },
  };
}

function actual(suspension: SuspensionRecord): Series {
  const seen = seenMs(suspension);
  const who = isFigure(suspension.guestMs) ? 'guest saw' : 'agents timed';
  return {
    name: `${who} ${formatDuration(seen)}`,
    tone: 'second',
    points: [[suspension.at, seen]],
    shape: 'line',
    stroke: 'data',
    mark: 'diamond',
  };
}

/** Limit and thresholds as steps, since they may change in flight; equal ones share a line. */
function guides(story: Story): Series[] {
  const changes = [{ at: 0, limits: story.start.limits }, ...story.limits];
  const kinds = [
    ['limit', 'maxSuspendMs', 'alarm', 'solid-guide'],
    ['abort above', 'abortAboveMs', 'quiet', 'dashed-guide'],
    ['pause below', 'pauseBelowMs', 'quiet', 'dotted-guide'],
  ] as const;
  const merged = new Map<string, Series>();
  for (const [name, field, tone, stroke] of kinds) {
    const points = guidePoints(changes, field);
    const last = points.at(-1)?.[1];
    if (last === undefined) continue;
    const key = JSON.stringify(points);
    const known = merged.get(key);
    const label =
      known === undefined ? `${name} ${shortDuration(last)}` : `${name} = ${known.name}`;
    merged.set(key, { ...(known ?? { tone, stroke, points, shape: 'step' }), name: label });
  }
  return [...merged.values()];
}

function guidePoints(
  changes: readonly { at: number; limits: PolicyLimits }[],
  field: 'maxSuspendMs' | 'abortAboveMs' | 'pauseBelowMs',
): Point[] {
  return changes.flatMap(({ at, limits }): Point[] => {
    const value = limits[field];
    return isFigure(value) ? [[at, value]] : [];
  });
}
