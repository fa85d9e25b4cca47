import { isFigure } from '../words.ts';
import {
  axisWidth,
  type EdgeLabel,
  edgeLabels,
  type Plot,
  picture,
  type Tone,
  textWidth,
  x,
  xAxis,
  y,
  yAxis,
} from './frame.ts';
import { el, fixed, type Markup } from './markup.ts';
import type { Quantity } from './scale.ts';
import { type Scale, valueScale } from './scale.ts';

export type Point = readonly [x: number, y: number];

/** One line of a chart; a single point is drawn by its mark alone. */
export interface Series {
  readonly name: string;
  readonly tone: Tone;
  readonly points: readonly Point[];
  /** step: the value holds until the next point. */
  readonly shape: 'line' | 'step';
  /** Guides (limits, thresholds) are thin; their dashes tell them apart without colour. */
  readonly stroke: 'data' | 'solid-guide' | 'dashed-guide' | 'dotted-guide';
  readonly mark?: 'dot' | 'diamond' | undefined;
}

export interface LineChart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly xName: string;
  readonly xScale: (ticks: number) => Scale;
  readonly yQuantity: Quantity;
  readonly yShape?: 'auto' | 'linear';
  readonly series: readonly Series[];
  /** An uncertain range around a line. */
  readonly band?: { tone: Tone; points: readonly (readonly [number, number, number])[] };
  /** x ranges of every second round, shaded. */
  readonly shades?: readonly Point[];
  /** Numbered moments. */
  readonly events?: readonly { at: number; label: string }[];
}

/** Below this width labels go to the legend: beside the lines they would leave no room for them. */
export const DIRECT_LABELS_FROM = 480;

/** A chart of lines over time or rounds; points that are not finite are left out. */
export function lineChart(chart: LineChart, width: number, height: number): Markup {
  const series = chart.series.map((one) => ({ ...one, points: one.points.filter(finite) }));
  const drawn = series.filter(({ points }) => points.length > 0);
  const band = (chart.band?.points ?? []).filter(finite);
  const values = [...drawn.flatMap(({ points }) => points), ...band.map(([at, , h]) => [at, h])];
  const yScale = valueScale(
    chart.yQuantity,
    [...values.map((point) => point[1]!), ...band.map(([, low]) => low)],
    4,
    chart.yShape,
  );
  const direct = width >= DIRECT_LABELS_FROM;
  const labelWidth = Math.max(0, ...drawn.map(({ name }) => textWidth(name))) + 12;
  const plot: Plot = {
    left: Math.max(axisWidth(yScale), textWidth(chart.xName) + 16),
    right: width - (direct ? labelWidth : 18),
    top: chart.events === undefined || chart.events.length === 0 ? 12 : 26,
    bottom: height - 26,
  };
  const xScale = chart.xScale(Math.max(2, Math.floor((plot.right - plot.left) / 64)));
  const labels = drawn.map(({ name, tone, points }): EdgeLabel => {
    return { y: y(plot, yScale, points.at(-1)![1]), text: name, tone };
  });
  return picture(chart.id, { width, height }, chart, [
    (chart.shades ?? []).map(([from, to]) => shade(plot, xScale, from, to)),
    yAxis(plot, yScale),
    xAxis(plot, xScale, chart.xName),
    band.length > 1 ? [bandShape(plot, xScale, yScale, band, chart.band!.tone)] : [],
    drawn.map((one) => stroke(plot, xScale, yScale, one)),
    drawn.flatMap((one) => marks(plot, xScale, yScale, one)),
    (chart.events ?? []).flatMap((event) => eventMark(plot, x(plot, xScale, event.at), event)),
    direct ? edgeLabels(plot, labels) : [],
  ]);
}

function shade(plot: Plot, scale: Scale, from: number, to: number): Markup {
  const left = x(plot, scale, from);
  const width = Math.max(0, x(plot, scale, to) - left);
  return el('rect', {
    class: 'shade',
    x: left,
    y: plot.top,
    width,
    height: plot.bottom - plot.top,
  });
}

function bandShape(
  plot: Plot,
  xs: Scale,
  ys: Scale,
  points: readonly (readonly [number, number, number])[],
  tone: Tone,
): Markup {
  const upper = points.map(([at, , high]) => pair(x(plot, xs, at), y(plot, ys, high)));
  const lower = points.map(([at, low]) => pair(x(plot, xs, at), y(plot, ys, low)));
  return el('path', {
    class: `band fill-${tone}`,
    d: `M${[...upper, ...lower.reverse()].join('L')}Z`,
  });
}

function stroke(plot: Plot, xs: Scale, ys: Scale, { points, shape, stroke, tone }: Series): Markup {
  let d = '';
  let last = 0;
  for (const point of thin(points, plot, xs)) {
    const [px, py] = [x(plot, xs, point[0]), y(plot, ys, point[1])];
    if (d === '') d = `M${pair(px, py)}`;
    else d += shape === 'step' ? `H${fixed(px)}V${fixed(py)}` : `L${pair(px, py)}`;
    last = px;
  }
  // A guide holds to the end of the axis.
  if (stroke !== 'data' && last < plot.right) d += `H${fixed(plot.right)}`;
  return el('path', { class: `line ${stroke} stroke-${tone}`, d });
}

/** Where several points share a pixel column, its first, lowest, highest and last say it all. */
function thin(points: readonly Point[], plot: Plot, scale: Scale): readonly Point[] {
  if (points.length <= 4 * (plot.right - plot.left)) return points;
  const columns = Map.groupBy(points, ([at]) => Math.floor(x(plot, scale, at)));
  return [...columns.values()].flatMap((column) => {
    const byValue = [...column].sort((a, b) => a[1] - b[1]);
    const kept = new Set([column[0]!, byValue[0]!, byValue.at(-1)!, column.at(-1)!]);
    return column.filter((point) => kept.has(point));
  });
}

function marks(plot: Plot, xs: Scale, ys: Scale, { points, mark, tone, name }: Series): Markup[] {
  if (mark === undefined) return [];
  return points.map(([at, value]) => {
    const [px, py] = [x(plot, xs, at), y(plot, ys, value)];
    if (mark === 'dot') return el('circle', { class: `dot fill-${tone}`, cx: px, cy: py, r: 3 });
    const d = `M${pair(px, py - 6)}L${pair(px + 6, py)}L${pair(px, py + 6)}L${pair(px - 6, py)}Z`;
    return el('path', { class: `dot fill-${tone}`, d }, el('title', {}, name));
  });
}

function eventMark(plot: Plot, at: number, { label }: { label: string }): Markup[] {
  const half = Math.max(8, textWidth(label) / 2 + 4);
  const center = Math.min(at, plot.right - half + 10);
  return [
    el('line', { class: 'event', x1: at, x2: at, y1: 18, y2: plot.bottom }),
    el('rect', { class: 'event-flag', x: center - half, y: 2, width: 2 * half, height: 16, rx: 8 }),
    el('text', { class: 'event-text', x: center, y: 14, 'text-anchor': 'middle' }, label),
  ];
}

function pair(px: number, py: number): string {
  return `${fixed(px)} ${fixed(py)}`;
}

function finite(values: readonly number[]): boolean {
  return values.every(isFigure);
}
