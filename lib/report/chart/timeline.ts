import {
  axisWidth,
  type EdgeLabel,
  edgeLabels,
  type Plot,
  picture,
  textWidth,
  x,
  xAxis,
  y,
  yAxis,
} from './frame.ts';
import { el, type Markup } from './markup.ts';
import { linearScale, type Quantity, type Scale, valueScale } from './scale.ts';
import {
  type Band,
  band,
  diamond,
  finite,
  line,
  marks,
  type Point,
  type Series,
  shade,
} from './series.ts';

/** One quantity over the common time. */
export interface Panel {
  readonly name: string;
  readonly quantity: Quantity;
  readonly shape: 'auto' | 'linear';
  readonly series: readonly Series[];
  readonly band?: Band | undefined;
  readonly height: number;
}

/** A time in which something held, through all panels. */
export interface Spell {
  readonly from: number;
  readonly to: number;
  readonly kind: 'suspended' | 'lost';
}

/** What a policy answered, for whoever points at it. */
export interface Decision {
  readonly at: number;
  readonly action: string;
  readonly text: string;
}

export interface Timeline {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  /** ms */
  readonly from: number;
  readonly to: number;
  readonly panels: readonly Panel[];
  readonly spells: readonly Spell[];
  readonly decisions: readonly Decision[];
  /** Every second round. */
  readonly rounds: readonly Point[];
  /** Numbered moments. */
  readonly events: readonly { readonly at: number; readonly label: string }[];
}

/** Below this width labels go to the legend: beside the lines they would leave no room for them. */
const DIRECT_LABELS_FROM = 900;
/** Rows above the panels, and the line with a panel's name, px. */
const FLAGS = 24;
const DECISIONS = 22;
const NAME = 36;
const AXIS = 26;
const NARROW_RIGHT = 20;
/** A spell is seen however short it was, px. */
const THINNEST = 2.5;
/** Rounds are not told apart when they have less than this on the whole, px. */
const SEEN = 6;
/** Decisions that are nearer to each other share a mark, px. */
const APART = 3;
const DECISIONS_NAME = 'decisions';

/** Panels under each other on one time axis, with what runs through all of them. */
export function timelineChart(chart: Timeline, width: number): Markup {
  const panels = chart.panels.map(readied);
  const direct = width >= DIRECT_LABELS_FROM;
  const labels = panels.flatMap(({ series }) => series.map(({ name }) => textWidth(name)));
  const lefts = panels.map(({ scale }) => axisWidth(scale));
  const flags = chart.events.length > 0 ? FLAGS : 0;
  const top = flags + (chart.decisions.length > 0 ? DECISIONS : 0);
  const heights = panels.map(({ height }) => NAME + height);
  const bottom = top + heights.reduce((sum, height) => sum + height, 0);
  const all: Plot = {
    left: Math.max(textWidth(DECISIONS_NAME) + 8, ...lefts),
    right: width - (direct ? Math.max(0, ...labels) + 14 : NARROW_RIGHT),
    top,
    bottom,
  };
  const ticks = Math.max(2, Math.floor((all.right - all.left) / 64));
  const xs = linearScale('duration', chart.from, chart.to, ticks);
  let passed = top;
  const through = {
    rounds: chart.rounds.length * SEEN > all.right - all.left ? [] : chart.rounds,
    spells: merged(chart.spells, (at) => x(all, xs, at)),
  };
  const drawn = panels.map((panel, i) => {
    passed += heights[i]!;
    const plot = { ...all, top: passed - panel.height, bottom: passed };
    return drawPanel(panel, plot, xs, direct, through);
  });
  return picture(chart.id, { width, height: bottom + AXIS }, chart, [
    ...drawn,
    xAxis(all, xs, 'time'),
    decisionMarks(chart.decisions, all, xs, flags + DECISIONS / 2),
    chart.events.flatMap((event) => eventMark(all, x(all, xs, event.at), event.label)),
  ]);
}

/** Spells of a kind that touch at that width are one: a line that flaps has thousands. */
function merged(spells: readonly Spell[], px: (at: number) => number): Spell[] {
  const result: Spell[] = [];
  for (const spell of [...spells].sort((a, b) => a.from - b.from)) {
    const last = result.findLast(({ kind }) => kind === spell.kind);
    const touches = last !== undefined && px(spell.from) - px(last.to) < THINNEST;
    if (!touches) result.push(spell);
    else result[result.lastIndexOf(last)] = { ...last, to: Math.max(last.to, spell.to) };
  }
  return result;
}

interface Readied extends Panel {
  readonly scale: Scale;
}

/** Without points that cannot be drawn, and with the scale that takes all others. */
function readied(panel: Panel): Readied {
  const series = panel.series
    .map((one) => ({ ...one, points: one.points.filter(finite) }))
    .filter(({ points }) => points.length > 0);
  const points = panel.band?.points.filter(finite) ?? [];
  const values = [
    ...series.flatMap((one) => one.points.map(([, value]) => value)),
    ...points.flatMap(([, low, high]) => [low, high]),
  ];
  const ticks = Math.max(2, Math.round(panel.height / 40));
  const scale = valueScale(panel.quantity, values, ticks, panel.shape);
  return { ...panel, series, band: panel.band && { ...panel.band, points }, scale };
}

function drawPanel(
  panel: Readied,
  plot: Plot,
  xs: Scale,
  direct: boolean,
  { rounds, spells }: Pick<Timeline, 'rounds' | 'spells'>,
): Markup[] {
  const { name, scale, series } = panel;
  const labels = series.map(({ name: text, tone, points }): EdgeLabel => {
    return { y: y(plot, scale, points.at(-1)![1]), text, tone };
  });
  return [
    ...rounds.map((round) => shade(plot, xs, round, 'shade')),
    ...spells.map(({ from, to, kind }) => shade(plot, xs, [from, to], `spell-${kind}`, THINNEST)),
    ...yAxis(plot, scale),
    ...(panel.band === undefined ? [] : band(plot, xs, scale, panel.band)),
    ...series.map((one) => line(plot, xs, scale, one)),
    ...series.flatMap((one) => marks(plot, xs, scale, one)),
    el('text', { class: 'label halo', x: 0, y: plot.top - 11 }, name),
    ...(direct ? edgeLabels(plot, labels) : []),
  ];
}

function decisionMarks(all: readonly Decision[], plot: Plot, xs: Scale, middle: number): Markup[] {
  if (all.length === 0) return [];
  const shown = new Map<string, Markup>();
  for (const { at, action, text } of all) {
    const px = x(plot, xs, at);
    const key = `${action} ${Math.floor(px / APART)}`;
    if (!shown.has(key)) shown.set(key, decisionMark(px, middle, action, text));
  }
  return [
    el('text', { class: 'tick', x: 0, y: middle + 4 }, DECISIONS_NAME),
    el('line', { class: 'grid', x1: plot.left, x2: plot.right, y1: middle, y2: middle }),
    ...shown.values(),
  ];
}

function decisionMark(px: number, middle: number, action: string, text: string): Markup {
  if (action === 'stop-and-copy') return diamond(px, middle, 6, 'dot fill-second', text);
  if (action === 'abort') return diamond(px, middle, 6, 'dot fill-alarm', text);
  const held = action === 'hold';
  const shape = held ? 'hollow stroke-main' : 'dot fill-main';
  return el('circle', { class: shape, cx: px, cy: middle, r: 3.5 }, el('title', {}, text));
}

function eventMark(plot: Plot, at: number, label: string): Markup[] {
  const half = Math.max(8, textWidth(label) / 2 + 4);
  const center = Math.min(at, plot.right - half + 10);
  return [
    el('line', { class: 'event', x1: at, x2: at, y1: 18, y2: plot.bottom }),
    el('rect', { class: 'event-flag', x: center - half, y: 2, width: 2 * half, height: 16, rx: 8 }),
    el('text', { class: 'event-text', x: center, y: 14, 'text-anchor': 'middle' }, label),
  ];
}
