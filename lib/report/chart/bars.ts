import { formatDuration } from '../../units.ts';
import { percent } from '../words.ts';
import { type Plot, picture, textWidth, x, xAxis } from './frame.ts';
import { el, type Markup } from './markup.ts';
import { linearScale } from './scale.ts';

/** A piece of a time, ms. */
export interface Part {
  readonly name: string;
  /** Class of its fill. */
  readonly fill: string;
  readonly ms: number;
}

export interface BarChart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly parts: readonly Part[];
}

/** From here on a name stands beside its bar, below it above, px. */
const BESIDE_FROM = 500;
const BAR = 16;
const ROW = { beside: 26, above: 38 };
/** A part of no length worth a pixel is there all the same, px. */
const THINNEST = 2;

/** Parts of a time under each other, each where the one before it ends, with its length and share. */
export function barChart({ id, title, description, parts }: BarChart, width: number): Markup {
  const total = parts.reduce((sum, { ms }) => sum + ms, 0);
  const texts = parts.map(({ ms }) => `${formatDuration(ms)} · ${percent(ms / total)}`);
  const beside = width >= BESIDE_FROM;
  const row = beside ? ROW.beside : ROW.above;
  const names = Math.max(...parts.map(({ name }) => textWidth(name)));
  const lengths = Math.max(...texts.map(textWidth));
  const bottom = parts.length * row + 4;
  const plot: Plot = {
    left: beside ? names + 12 : textWidth('time') + 8,
    right: width - (beside ? lengths + 12 : 20),
    top: 0,
    bottom,
  };
  const ticks = Math.max(3, Math.floor((plot.right - plot.left) / 80));
  const scale = linearScale('duration', 0, total, ticks);
  let passed = 0;
  const rows = parts.map(({ name, fill, ms }, i) => {
    const top = i * row + (row - BAR - (beside ? 5 : 3));
    const from = x(plot, scale, passed);
    passed += ms;
    const length = Math.max(THINNEST, x(plot, scale, passed) - from);
    const left = Math.min(from, plot.right - THINNEST);
    const title = el('title', {}, `${name} ${formatDuration(ms)}`);
    const line = beside ? top + BAR - 4 : top - 5;
    return [
      el('text', { class: 'label', x: 0, y: line }, name),
      el('text', { class: 'tick', x: width, y: line, 'text-anchor': 'end' }, texts[i]),
      el('rect', { class: fill, x: left, y: top, width: length, height: BAR }, title),
    ];
  });
  const grid = scale.ticks.map((tick) => {
    const at = x(plot, scale, tick);
    return el('line', { class: 'grid', x1: at, x2: at, y1: plot.top, y2: plot.bottom });
  });
  const size = { width, height: bottom + 26 };
  return picture(id, size, { title, description }, [
    grid,
    xAxis(plot, scale, beside ? '' : 'time'),
    rows.flat(),
  ]);
}
