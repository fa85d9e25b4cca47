import { formatDuration } from '../../units.ts';
import { axisWidth, type Plot, picture, textWidth, y, yAxis } from './frame.ts';
import { el, fixed, type Markup } from './markup.ts';
import { type Scale, valueScale } from './scale.ts';

/** One suspension, ms. */
export interface Suspended {
  /** For people. */
  readonly name: string;
  readonly ms: number;
  readonly limitMs: number | undefined;
  readonly forecast: { low: number; expected: number; high: number } | undefined;
  readonly moved: boolean;
}

export interface AmongChart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  /** The oldest first; the last one is marked. */
  readonly all: readonly Suspended[];
  /** Below the first column. */
  readonly since: string;
}

const HEIGHT = 210;
/** Widest column: a few moves do not lie as far apart as the page is wide. */
const MAX_SLOT = 72;
const THIS_MOVE = 'this move';

/** Suspensions side by side: forecast, limit and what came. */
export function amongChart(chart: AmongChart, width: number): Markup {
  const { all, since } = chart;
  const values = all.flatMap(({ ms, limitMs, forecast }) => [
    ms,
    ...(limitMs === undefined ? [] : [limitMs]),
    ...(forecast === undefined ? [] : [forecast.low, forecast.high]),
  ]);
  const scale = valueScale('duration', values, 4);
  const left = axisWidth(scale);
  // Room for the words below the last column, however narrow it is.
  const slot = Math.min(MAX_SLOT, (width - 24 - left) / all.length);
  const plot: Plot = { left, right: left + slot * all.length, top: 12, bottom: HEIGHT - 26 };
  const columns = all.map((one, i) => column(plot, scale, one, left + slot * i, slot));
  const own = plot.right - slot;
  const half = textWidth(THIS_MOVE) / 2;
  const center = Math.min(own + slot / 2, width - half);
  const label = plot.bottom + 18;
  return picture(chart.id, { width, height: HEIGHT }, chart, [
    [shade(plot, own, slot)],
    yAxis(plot, scale),
    columns.flat(),
    [
      el('line', { class: 'base', x1: left, x2: plot.right, y1: plot.bottom, y2: plot.bottom }),
      el('text', { class: 'tick', x: left, y: label }, since),
      el('text', { class: 'label', x: center, y: label, 'text-anchor': 'middle' }, THIS_MOVE),
    ],
  ]);
}

function shade(plot: Plot, x: number, width: number): Markup {
  return el('rect', { class: 'marked', x, y: plot.top, width, height: plot.bottom - plot.top });
}

function column(plot: Plot, scale: Scale, one: Suspended, left: number, slot: number): Markup[] {
  const { name, ms, limitMs, forecast, moved } = one;
  const [center, at] = [left + slot / 2, y(plot, scale, ms)];
  const half = Math.min(7, slot * 0.3);
  const shapes: Markup[] = [];
  if (forecast !== undefined) {
    const [top, bottom] = [y(plot, scale, forecast.high), y(plot, scale, forecast.low)];
    const middle = y(plot, scale, forecast.expected);
    const size = { x: center - half, width: 2 * half };
    shapes.push(
      el('rect', { class: 'band fill-main', ...size, y: top, height: Math.max(1, bottom - top) }),
      el('line', {
        class: 'line stroke-main',
        ...{ x1: center - half, x2: center + half, y1: middle, y2: middle },
      }),
    );
  }
  if (limitMs !== undefined) {
    const limit = y(plot, scale, limitMs);
    const [x1, x2] = [left + slot * 0.1, left + slot * 0.9];
    shapes.push(el('line', { class: 'deadline', x1, x2, y1: limit, y2: limit }));
  }
  const size = Math.min(6, slot * 0.35);
  const points = [
    [center, at - size],
    [center + size, at],
    [center, at + size],
    [center - size, at],
  ];
  const d = `M${points.map(([px, py]) => `${fixed(px!)} ${fixed(py!)}`).join('L')}Z`;
  const shape = moved ? 'dot fill-second' : 'hollow stroke-second';
  shapes.push(el('path', { class: shape, d }, el('title', {}, `${name}: ${formatDuration(ms)}`)));
  return shapes;
}
