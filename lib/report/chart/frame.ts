import { el, type Markup } from './markup.ts';
import { position, type Scale, tickText } from './scale.ts';

/** The room inside the axes, in pixels. */
export interface Plot {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** Colours by meaning; the style sheet gives them their values. */
export type Tone = 'main' | 'second' | 'third' | 'alarm' | 'quiet';

/** A text at the right edge, wished at a height. */
export interface EdgeLabel {
  readonly y: number;
  readonly text: string;
  readonly tone: Tone;
}

/** Line height of labels, px. */
export const LABEL_HEIGHT = 15;
/** Mean width of a character at the label size, px; measured on several system fonts, rounded up. */
const CHARACTER = 7.2;

export function textWidth(text: string): number {
  return text.length * CHARACTER;
}

export function x(plot: Plot, scale: Scale, value: number): number {
  return plot.left + position(scale, value) * (plot.right - plot.left);
}

export function y(plot: Plot, scale: Scale, value: number): number {
  return plot.bottom - position(scale, value) * (plot.bottom - plot.top);
}

/** An SVG picture with a name and a description for those who cannot see it. */
export function picture(
  id: string,
  size: { width: number; height: number },
  words: { title: string; description: string },
  children: readonly (Markup | readonly Markup[])[],
): Markup {
  const { width, height } = size;
  return el(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'aria-labelledby': `${id}-title ${id}-description`,
    },
    el('title', { id: `${id}-title` }, words.title),
    el('desc', { id: `${id}-description` }, words.description),
    children,
  );
}

/** Width that the tick texts of a y axis need, px. */
export function axisWidth(scale: Scale): number {
  const texts = scale.ticks.map((tick) => tickText(scale.quantity, tick));
  return Math.max(28, ...texts.map(textWidth)) + 10;
}

/** Horizontal grid lines with their values at the left. */
export function yAxis(plot: Plot, scale: Scale): Markup[] {
  return scale.ticks.flatMap((tick) => {
    const at = y(plot, scale, tick);
    const base = tick === scale.min && !scale.log;
    return [
      el('line', { class: base ? 'base' : 'grid', x1: plot.left, x2: plot.right, y1: at, y2: at }),
      el(
        'text',
        { class: 'tick', x: plot.left - 8, y: at + 4, 'text-anchor': 'end' },
        tickText(scale.quantity, tick),
      ),
    ];
  });
}

/** Values below the plot; what they are stands in the same line, at the left edge. */
export function xAxis(plot: Plot, scale: Scale, name: string): Markup[] {
  const at = plot.bottom + 18;
  return [
    el('line', { class: 'base', x1: plot.left, x2: plot.right, y1: plot.bottom, y2: plot.bottom }),
    el('text', { class: 'tick', x: 0, y: at }, name),
    ...scale.ticks.map((tick) =>
      el(
        'text',
        { class: 'tick', x: x(plot, scale, tick), y: at, 'text-anchor': 'middle' },
        tickText(scale.quantity, tick),
      ),
    ),
  ];
}

/** Labels at the right edge, pushed apart until none covers another. */
export function edgeLabels(plot: Plot, labels: readonly EdgeLabel[]): Markup[] {
  const sorted = [...labels].sort((a, b) => a.y - b.y);
  const heights = spread(
    sorted.map(({ y: wished }) => wished),
    { from: plot.top, to: plot.bottom, gap: LABEL_HEIGHT },
  );
  return sorted.map(({ text, tone }, i) =>
    el('text', { class: `label ink-${tone}`, x: plot.right + 10, y: heights[i]! + 4 }, text),
  );
}

/** Rising positions moved as little as a simple sweep can, at least `gap` apart. */
export function spread(
  wished: readonly number[],
  room: { from: number; to: number; gap: number },
): number[] {
  const { from, to, gap } = room;
  const placed: number[] = [];
  for (const value of wished) placed.push(Math.max(value, (placed.at(-1) ?? from - gap) + gap));
  let limit = to;
  for (let i = placed.length - 1; i >= 0; i--) {
    placed[i] = Math.min(placed[i]!, limit);
    limit = placed[i]! - gap;
  }
  return placed;
}
