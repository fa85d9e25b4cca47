import { isFigure } from '../words.ts';
import { type Plot, type Tone, x, y } from './frame.ts';
import { el, fixed, type Markup } from './markup.ts';
import type { Scale } from './scale.ts';

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
  readonly mark?: 'diamond' | undefined;
}

/** An uncertain range around a line: x, low and high. */
export interface Band {
  readonly tone: Tone;
  readonly points: readonly (readonly [number, number, number])[];
}

export function line(plot: Plot, xs: Scale, ys: Scale, series: Series): Markup {
  const { points, shape, stroke, tone } = series;
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

export function marks(plot: Plot, xs: Scale, ys: Scale, series: Series): Markup[] {
  const { points, mark, tone, name } = series;
  if (mark === undefined) return [];
  return points.map(([at, value]) =>
    diamond(x(plot, xs, at), y(plot, ys, value), 6, `dot fill-${tone}`, name),
  );
}

export function band(plot: Plot, xs: Scale, ys: Scale, { tone, points }: Band): Markup[] {
  if (points.length < 2) return [];
  const thinned = thin(points, plot, xs);
  const upper = thinned.map(([at, , high]) => pair(x(plot, xs, at), y(plot, ys, high)));
  const lower = thinned.map(([at, low]) => pair(x(plot, xs, at), y(plot, ys, low)));
  const d = `M${[...upper, ...lower.reverse()].join('L')}Z`;
  return [el('path', { class: `band fill-${tone}`, d })];
}

export function diamond(
  px: number,
  py: number,
  size: number,
  shape: string,
  title: string,
): Markup {
  const d = `M${pair(px, py - size)}L${pair(px + size, py)}L${pair(px, py + size)}L${pair(px - size, py)}Z`;
  return el('path', { class: shape, d }, el('title', {}, title));
}

/** A range of x through the whole plot; one that is shorter than `thinnest` px is shown that wide. */
export function shade(
  plot: Plot,
  xs: Scale,
  [from, to]: Point,
  shape: string,
  thinnest = 0,
): Markup {
  const left = x(plot, xs, from);
  const width = Math.max(thinnest, x(plot, xs, to) - left);
  return el('rect', {
    class: shape,
    x: Math.min(left, plot.right - thinnest),
    y: plot.top,
    width,
    height: plot.bottom - plot.top,
  });
}

/** Where several points share two pixels, the first, lowest, highest and last of them say it all. */
function thin<P extends readonly [number, number, ...number[]]>(
  points: readonly P[],
  plot: Plot,
  scale: Scale,
): readonly P[] {
  if (points.length <= 2 * (plot.right - plot.left)) return points;
  const columns = Map.groupBy(points, ([at]) => Math.floor(x(plot, scale, at) / 2));
  return [...columns.values()].flatMap((column) => {
    const byValue = [...column].sort((a, b) => a[1] - b[1]);
    const kept = new Set([column[0]!, byValue[0]!, byValue.at(-1)!, column.at(-1)!]);
    return column.filter((point) => kept.has(point));
  });
}

function pair(px: number, py: number): string {
  return `${fixed(px)} ${fixed(py)}`;
}

export function finite(values: readonly number[]): boolean {
  return values.every(isFigure);
}
