import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { formatDuration, formatRate, formatSize } from '../../units.ts';
import { type LineChart, lineChart, type Point, type Series } from '../chart/lines.ts';
import type { Story } from '../story.ts';
import { count, isFigure } from '../words.ts';
import { data, type Figure, seriesLegend, timeChart } from './figure.ts';
import { rates, sentOverTime } from './sent.ts';

/** Bytes per second on the wire, and the guest memory that they stand for. */
export function throughputFigure(
  story: Story,
  events: LineChart['events'] = [],
): Figure | undefined {
  const sent = sentOverTime(story);
  const wire = rates(sent.map(({ at, wire }) => [at, wire]));
  if (!wire.some(([, rate]) => rate > 0)) return undefined;
  const drain = story.consultations
    .filter(({ stats }) => isFigure(stats.drainRate) && stats.drainRate > 0)
    .map(({ at, stats }): Point => [at, stats.drainRate]);
  const series = [
    { ...data('on the wire', 'main', wire), shape: 'step' as const },
    data('guest memory', 'third', drain),
    ...bandwidthCap(story),
  ];
  const chart = timeChart(story, events, {
    title: 'Throughput',
    description: 'Bytes per second on the wire and of guest memory, over time.',
    yQuantity: 'rate',
    yShape: 'linear',
    series,
  });
  return {
    title: chart.title,
    caption:
      'Measured at the receiver’s acknowledgements; zero pages are left out of guest memory.',
    wide: false,
    draw: (id, width) => lineChart({ ...chart, id }, width, 260),
    legend: seriesLegend(series),
    legendAlways: false,
    table: {
      head: ['round', 'time', 'wire rate', 'guest memory rate'],
      rows: story.rounds.map(({ round, ms, wireBytes, sentPages }) => [
        count(round),
        formatDuration(ms),
        ms > 0 ? formatRate((wireBytes * 1000) / ms) : '–',
        ms > 0 ? formatRate((sentPages * PAGE_SIZE * 1000) / ms) : '–',
      ]),
    },
  };
}

function bandwidthCap({ start, limits }: Story): Series[] {
  const points = [start, ...limits].flatMap(({ at, bandwidth }): Point[] =>
    isFigure(bandwidth) ? [[at, bandwidth]] : [],
  );
  const last = points.at(-1);
  if (last === undefined) return [];
  const name = `cap ${formatRate(last[1])}`;
  return [{ name, tone: 'alarm', points, shape: 'step', stroke: 'solid-guide' }];
}

/** Bytes since the beginning: what it cost and what it carried. */
export function bytesFigure(story: Story, events: LineChart['events'] = []): Figure | undefined {
  const sent = sentOverTime(story);
  const last = sent.at(-1);
  if (last === undefined || sent.length < 3) return undefined;
  const series = [
    data(
      `on the wire ${formatSize(last.wire)}`,
      'main',
      sent.map(({ at, wire }) => [at, wire]),
    ),
    data(
      `guest memory ${formatSize(last.guest)}`,
      'third',
      sent.map(({ at, guest }) => [at, guest]),
    ),
  ];
  const chart = timeChart(story, events, {
    title: 'Bytes sent',
    description: 'Bytes sent since the beginning, on the wire and as guest memory.',
    yQuantity: 'size',
    yShape: 'linear',
    series,
  });
  let wire = 0;
  return {
    title: chart.title,
    caption: 'Since the beginning; pages sent again count again.',
    wide: false,
    draw: (id, width) => lineChart({ ...chart, id }, width, 260),
    legend: seriesLegend(series),
    legendAlways: false,
    table: {
      head: ['round', 'pages sent', 'wire bytes', 'wire bytes so far'],
      rows: story.rounds.map(({ round, sentPages, wireBytes }) => {
        wire += wireBytes;
        return [count(round), count(sentPages), formatSize(wireBytes), formatSize(wire)];
      }),
    },
  };
}
