import { isFigure, percent } from '../words.ts';
import { type Plot, picture, x, xAxis, yAxis } from './frame.ts';
import { el, type Markup } from './markup.ts';
import { linearScale } from './scale.ts';

/** One colour of the stack: a value for each column, and its share of everything. */
export interface Layer {
  readonly name: string;
  /** Class of its fill. */
  readonly fill: string;
  readonly values: readonly number[];
}

export interface ColumnChart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly layers: readonly Layer[];
  /** Number of the first column. */
  readonly first: number;
}

/** Between the columns and their total, px. */
const TOTAL_GAP = 14;
const TOTAL_WIDTH = 26;
/** Narrowest room for one column and widest bar, px. */
const MIN_SLOT = 3;
const MAX_BAR = 44;

/** Shares of 100 % by round, and of all rounds together in one column apart. */
export function columnChart(chart: ColumnChart, width: number, height: number): Markup {
  const columns = Math.max(1, ...chart.layers.map(({ values }) => values.length));
  const totals = chart.layers.map(({ values }) => sum(values));
  const scale = linearScale('share', 0, 1, 4);
  const plot: Plot = { left: 52, right: width - 2, top: 12, bottom: height - 26 };
  const inner: Plot = { ...plot, right: plot.right - TOTAL_WIDTH - TOTAL_GAP };
  const slots = (inner.right - inner.left) / columns;
  const rounds = linearScale(
    'count',
    chart.first - 0.5,
    chart.first + columns - 0.5,
    Math.max(2, Math.min(columns, Math.floor((inner.right - inner.left) / 32))),
  );
  // Rounds too narrow to be seen share a column.
  const group = Math.ceil(MIN_SLOT / slots);
  const bars = Array.from({ length: Math.ceil(columns / group) }, (_, i) => {
    const from = i * group;
    const until = Math.min(from + group, columns);
    const center = x(inner, rounds, chart.first + (from + until - 1) / 2);
    const barWidth = Math.min(slots * (until - from) * 0.82, MAX_BAR);
    const values = chart.layers.map(({ values }) => sum(values.slice(from, until)));
    return stack(plot, values, chart.layers, center - barWidth / 2, barWidth);
  });
  return picture(chart.id, { width, height }, chart, [
    yAxis(plot, scale),
    xAxis(inner, rounds, 'round'),
    bars.flat(),
    stack(plot, totals, chart.layers, plot.right - TOTAL_WIDTH, TOTAL_WIDTH),
    [
      el(
        'text',
        {
          class: 'tick',
          x: plot.right - TOTAL_WIDTH / 2,
          y: plot.bottom + 18,
          'text-anchor': 'middle',
        },
        'all',
      ),
    ],
  ]);
}

/** `raw 52 %`. */
export function shareName(name: string, share: number): string {
  return `${name} ${percent(share)}`;
}

function stack(
  plot: Plot,
  values: readonly number[],
  layers: readonly Layer[],
  left: number,
  width: number,
): Markup[] {
  const total = sum(values);
  if (!(total > 0)) return [];
  const scale = (plot.bottom - plot.top) / total;
  let bottom = plot.bottom;
  return values.flatMap((value, i) => {
    if (value === 0) return [];
    const height = value * scale;
    bottom -= height;
    const text = shareName(layers[i]!.name, value / total);
    return [
      el(
        'rect',
        { class: layers[i]!.fill, x: left, y: bottom, width, height },
        el('title', {}, text),
      ),
    ];
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + weight(value), 0);
}

function weight(value: number | undefined): number {
  return isFigure(value) && value > 0 ? value : 0;
}
