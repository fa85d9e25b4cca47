import {
  axisWidth,
  type Plot,
  picture,
  type Tone,
  x,
  xAxis,
  y,
  yAxis,
} from '../../report/chart/frame.ts';
import { el, fixed, type Markup } from '../../report/chart/markup.ts';
import {
  linearScale,
  type Quantity,
  type Scale,
  tickText,
  valueScale,
} from '../../report/chart/scale.ts';
import { isFigure } from '../../report/words.ts';
import type { Sample } from '../samples.ts';

/** One figure over time; all have the same time axis. */
interface Panel {
  readonly title: string;
  readonly quantity: Quantity;
  readonly tone: Tone;
  readonly of: (sample: Sample) => number | null;
}

const PANELS: readonly Panel[] = [
  { title: 'Remaining memory', quantity: 'size', tone: 'main', of: ({ left }) => left },
  { title: 'Made dirty', quantity: 'rate', tone: 'second', of: ({ dirty }) => dirty },
  { title: 'On the wire', quantity: 'rate', tone: 'main', of: ({ wire }) => wire },
];
const FORECAST: Panel = {
  title: 'Suspension: forecast and limit',
  quantity: 'duration',
  tone: 'main',
  of: ({ expected }) => expected,
};
const LIMIT = ({ limit }: Sample) => limit;

/** Heights, px. */
const TITLE = 32;
const PLOT = 78;
const AXIS = 26;
const GAP = 12;
/** Between ticks of time, px. */
const TICK_ROOM = 76;

/** What a migration was like until now: figures that there are, one below the other, on one time axis. */
export function timeline(samples: readonly Sample[], width: number): Markup | undefined {
  const last = samples.at(-1);
  if (last === undefined || samples.length < 2) return undefined;
  const panels = [...PANELS, FORECAST].filter(({ of }) => samples.some((s) => (of(s) ?? 0) > 0));
  if (panels.length === 0) return undefined;
  const scales = panels.map((panel) => scaleOf(panel, samples));
  const left = Math.max(...scales.map(axisWidth));
  const height = panels.length * (TITLE + PLOT + GAP) + AXIS;
  const plots = panels.map((_, i): Plot => {
    const top = i * (TITLE + PLOT + GAP) + TITLE;
    return { left, right: width - 12, top, bottom: top + PLOT };
  });
  const ticks = Math.max(2, Math.floor((width - left) / TICK_ROOM));
  const time = linearScale('duration', samples[0]!.at, last.at, ticks);
  const lowest = plots.at(-1)!;
  const description = panels
    .map((panel) => `${panel.title}: ${nowText(panel, samples)}`)
    .join('. ');
  return picture('timeline', { width, height }, { title: 'How it went so far', description }, [
    panels.flatMap((panel, i) => drawn(panel, plots[i]!, time, scales[i]!, samples)),
    xAxis(lowest, time, 'time'),
  ]);
}

function scaleOf(panel: Panel, samples: readonly Sample[]): Scale {
  const values = samples.map(panel.of).filter(isFigure);
  if (panel !== FORECAST) return valueScale(panel.quantity, values, 2, 'linear');
  // From seconds down to what is wanted: with the limit and the band that is mostly a logarithmic scale.
  const more = samples.flatMap(({ low, high, limit }) => [low, high, limit]);
  return valueScale(panel.quantity, [...values, ...more.filter(isFigure)], 2);
}

function drawn(panel: Panel, plot: Plot, time: Scale, scale: Scale, samples: readonly Sample[]) {
  const { title, tone, of } = panel;
  const at = (sample: Sample, value: number) =>
    `${fixed(x(plot, time, sample.at))} ${fixed(y(plot, scale, value))}`;
  const path = (value: Panel['of']) => {
    let d = '';
    let isDown = false;
    for (const sample of samples) {
      const figure = value(sample);
      if (figure !== null) d += `${isDown ? 'L' : 'M'}${at(sample, figure)}`;
      isDown = figure !== null;
    }
    return d;
  };
  const lines = [
    el('text', { class: 'label', x: 0, y: plot.top - 15 }, title),
    el(
      'text',
      { class: `label ink-${tone}`, x: plot.right, y: plot.top - 15, 'text-anchor': 'end' },
      nowText(panel, samples),
    ),
    ...yAxis(plot, scale),
  ];
  if (panel === FORECAST) {
    lines.push(band(samples, at));
    lines.push(el('path', { class: 'line solid-guide stroke-alarm', d: path(LIMIT) }));
  }
  lines.push(el('path', { class: `line stroke-${tone}`, d: path(of) }));
  return lines;
}

function band(samples: readonly Sample[], at: (sample: Sample, value: number) => string): Markup {
  const known = samples.filter(({ low, high }) => low !== null && high !== null);
  const upper = known.map((sample) => at(sample, sample.high!));
  const lower = known.map((sample) => at(sample, sample.low!)).reverse();
  const d = known.length < 2 ? '' : `M${[...upper, ...lower].join('L')}Z`;
  return el('path', { class: 'band fill-main', d });
}

function nowText(panel: Panel, samples: readonly Sample[]): string {
  const last = samples.at(-1)!;
  const now = panel.of(last);
  const text = now === null ? 'not known now' : tickText(panel.quantity, now);
  if (panel !== FORECAST || last.limit === null) return text;
  return `${text}, limit ${tickText(panel.quantity, last.limit)}`;
}
