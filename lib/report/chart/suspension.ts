import { formatDuration } from '../../units.ts';
import { shortDuration } from '../words.ts';
import { barChart, type Part } from './bars.ts';
import { type Plot, picture, textWidth, x, xAxis } from './frame.ts';
import { el, join, type Markup } from './markup.ts';
import { linearScale, type Scale } from './scale.ts';

export interface SuspensionChart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly estimate: { low: number; expected: number; high: number } | undefined;
  readonly parts: readonly Part[];
  readonly guestMs: number | undefined;
  readonly limitMs: number | undefined;
}

const ROW = 46;
const BAR = 20;
const TOP = 24;

/**
 * What was foretold, what the agents timed and what the guest saw against the limit; below that each
 * part, as large as the suspension is, however short.
 */
export function suspensionChart(chart: SuspensionChart, width: number): Markup {
  const { id, title, description, parts } = chart;
  const against = againstLimit(chart, width);
  if (!parts.some(({ ms }) => ms > 0)) return against;
  const bars = { id: `${id}-parts`, title: `${title}, each by itself`, description, parts };
  return join([against, barChart(bars, width)]);
}

function againstLimit(chart: SuspensionChart, width: number): Markup {
  const { estimate, parts, guestMs, limitMs } = chart;
  const partsMs = parts.reduce((sum, { ms }) => sum + ms, 0);
  const longest = Math.max(partsMs, guestMs ?? 0, estimate?.high ?? 0, limitMs ?? 0, 1);
  const rows: ((plot: Plot, scale: Scale, top: number) => Markup[])[] = [];
  if (estimate !== undefined) rows.push((...place) => forecastRow(estimate, ...place));
  rows.push((...place) => partsRow(parts, partsMs, ...place));
  if (guestMs !== undefined) rows.push((...place) => guestRow(guestMs, ...place));
  const height = TOP + rows.length * ROW + 34;
  const plot: Plot = { left: 44, right: width - 26, top: TOP, bottom: height - 26 };
  const ticks = Math.max(3, Math.floor((plot.right - plot.left) / 80));
  const scale = linearScale('duration', 0, longest * 1.04, ticks);
  return picture(chart.id, { width, height }, chart, [
    scale.ticks.map((tick) => {
      const at = x(plot, scale, tick);
      return el('line', { class: 'grid', x1: at, x2: at, y1: plot.top, y2: plot.bottom });
    }),
    xAxis(plot, scale, 'time'),
    limitMs === undefined ? [] : deadline(plot, x(plot, scale, limitMs), limitMs),
    rows.flatMap((row, i) => row(plot, scale, plot.top + i * ROW)),
  ]);
}

function forecastRow(
  { low, expected, high }: { low: number; expected: number; high: number },
  plot: Plot,
  scale: Scale,
  top: number,
): Markup[] {
  const middle = top + 20 + BAR / 2;
  const [from, to] = [x(plot, scale, low), x(plot, scale, high)];
  const text = `forecast ${formatDuration(expected)} (${formatDuration(low)} to ${formatDuration(high)})`;
  return [
    rowLabel(plot, top, text),
    el('rect', {
      class: 'band fill-main',
      x: from,
      y: middle - BAR / 2,
      width: Math.max(1, to - from),
      height: BAR,
    }),
    el('circle', { class: 'dot fill-main', cx: x(plot, scale, expected), cy: middle, r: 5 }),
  ];
}

function partsRow(
  parts: readonly Part[],
  total: number,
  plot: Plot,
  scale: Scale,
  top: number,
): Markup[] {
  let passed = 0;
  const bars = parts.map(({ name, fill, ms }) => {
    const left = x(plot, scale, passed);
    passed += ms;
    const width = Math.max(0, x(plot, scale, passed) - left);
    const title = el('title', {}, `${name} ${formatDuration(ms)}`);
    // A thin gap keeps neighbours apart; pieces too thin for it go without.
    const drawn = width > 4 ? width - 1 : width;
    return el('rect', { class: fill, x: left, y: top + 20, width: drawn, height: BAR }, title);
  });
  return [rowLabel(plot, top, `agents timed ${formatDuration(total)}`), ...bars];
}

function guestRow(guestMs: number, plot: Plot, scale: Scale, top: number): Markup[] {
  const width = Math.max(1, x(plot, scale, guestMs) - plot.left);
  return [
    rowLabel(plot, top, `guest saw ${formatDuration(guestMs)}`),
    el('rect', { class: 'fill-second', x: plot.left, y: top + 20, width, height: BAR }),
  ];
}

function rowLabel(plot: Plot, top: number, text: string): Markup {
  return el('text', { class: 'label halo', x: plot.left + 3, y: top + 14 }, text);
}

function deadline(plot: Plot, at: number, limitMs: number): Markup[] {
  const text = `limit ${shortDuration(limitMs)}`;
  const half = textWidth(text) / 2;
  const center = Math.min(Math.max(at, plot.left + half), plot.right + 24 - half);
  return [
    el('line', { class: 'deadline', x1: at, x2: at, y1: 17, y2: plot.bottom }),
    el('text', { class: 'label ink-alarm', x: center, y: 12, 'text-anchor': 'middle' }, text),
  ];
}
