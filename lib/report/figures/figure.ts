import { type LineChart, lineChart, type Point, type Series } from '../chart/lines.ts';
import type { Markup } from '../chart/markup.ts';
import { linearScale } from '../chart/scale.ts';
import type { Story } from '../story.ts';

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface LegendEntry {
  readonly text: string;
  /** Class of its swatch. */
  readonly swatch: string;
}

/** A chart with the words around it. */
export interface Figure {
  readonly title: string;
  /** What to look at, one sentence. */
  readonly caption: string;
  readonly wide: boolean;
  /** Draws it for a width in px; the id must be unique in the page. */
  readonly draw: (id: string, width: number) => Markup;
  readonly legend: readonly LegendEntry[];
  /** The legend says what direct labels do not, so it is shown at every width. */
  readonly legendAlways: boolean;
  readonly table: Table;
}

export function data(
  name: string,
  tone: Series['tone'],
  points: readonly Point[],
  mark?: 'dot',
): Series {
  return { name, tone, points, shape: 'line', stroke: 'data', mark };
}

export function seriesLegend(series: readonly Series[]): LegendEntry[] {
  return series
    .filter(({ points }) => points.length > 0)
    .map(({ name, tone, stroke, mark, points }) => ({
      text: name,
      swatch:
        points.length === 1 && mark === 'diamond'
          ? `swatch-diamond ink-${tone}`
          : `swatch-line ${stroke} ink-${tone}`,
    }));
}

export function roundFigure(
  series: readonly Series[],
  words: { title: string; caption: string; quantity: 'count' | 'rate'; table: Table },
): Figure {
  const { title, caption, quantity, table } = words;
  const rounds = series.flatMap(({ points }) => points.map(([round]) => round));
  const [from, to] = [Math.min(...rounds), Math.max(...rounds)];
  const chart = {
    title,
    description: `${caption} Rounds ${from} to ${to}.`,
    xName: 'round',
    xScale: (ticks: number) =>
      linearScale('count', from - 0.5, to + 0.5, Math.min(ticks * 2, to - from + 1)),
    yQuantity: quantity,
    series,
  };
  return {
    title,
    caption,
    wide: false,
    draw: (id, width) => lineChart({ ...chart, id }, width, 260),
    legend: seriesLegend(series),
    legendAlways: false,
    table,
  };
}

type TimeChart = Pick<
  LineChart,
  'title' | 'description' | 'yQuantity' | 'yShape' | 'series' | 'band'
>;

export function timeChart(
  story: Story,
  events: LineChart['events'] = [],
  chart: TimeChart,
  from = 0,
) {
  return {
    ...chart,
    events: events.filter(({ at }) => at >= from),
    xName: 'time',
    xScale: (ticks: number) => linearScale('duration', from, story.until, ticks),
    shades: story.rounds
      .filter(({ round }) => round % 2 === 0)
      .map(({ at, ms }): Point => [Math.max(from, at - ms), at])
      .filter(([began, ended]) => ended > began),
  };
}
