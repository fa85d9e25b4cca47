import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { formatDuration, formatRate, formatSize } from '../../units.ts';
import type { Point } from '../chart/series.ts';
import { type Decision, type Panel, type Spell, timelineChart } from '../chart/timeline.ts';
import type { ConsultationRecord, RoundRecord } from '../records.ts';
import { type Story, suspendedIn } from '../story.ts';
import { forecastInWords } from '../summary.ts';
import { where } from '../turning-points.ts';
import { count, isFigure } from '../words.ts';
import { boundedRows, type Figure, type LegendEntry, seriesLegend, type Table } from './figure.ts';
import { panelsOf } from './panels.ts';

export interface Event {
  readonly at: number;
  readonly label: string;
}

/** What comes after the first round is shown larger when it has less than this share of the time. */
const SMALL = 0.5;
/** Fewer consultations than this are no picture. */
const WORTH_A_LOOK = 4;

/** Everything that a move was, on one time axis; its end again when a long first round leaves no room for it. */
export function timelineFigures(story: Story, events: readonly Event[]): Figure[] {
  const panels = panelsOf(story);
  if (panels.length === 0) return [];
  const { until } = story;
  const whole = figureOf(story, events, panels, {
    title: 'The move on one time axis',
    caption: 'Numbers are moments of the list above. Every second round is shaded.',
    from: 0,
  });
  const second = story.consultations.find(({ stats }) => stats.iteration > 0);
  const from = second?.at ?? 0;
  const rest = story.consultations.filter(({ at }) => at >= from);
  if (from <= until * SMALL || from >= until || rest.length < WORTH_A_LOOK) return [whole];
  return [
    whole,
    figureOf(story, events, panels, {
      title: 'The same after the first round',
      caption: `From ${formatDuration(from)} on.`,
      from,
    }),
  ];
}

interface Window {
  readonly title: string;
  readonly caption: string;
  readonly from: number;
}

function figureOf(
  story: Story,
  events: readonly Event[],
  all: readonly Panel[],
  { title, caption, from }: Window,
): Figure {
  const panels = from === 0 ? all : all.map((panel) => since(panel, from));
  const { until: to, rounds } = story;
  const spells = spellsOf(story).filter((spell) => spell.to >= from);
  const chart = {
    ...{ title, from, to, panels, spells },
    description: `${caption} ${panels.map(({ name }) => name).join(', ')}.`,
    decisions: decisionsOf(story).filter(({ at }) => at >= from),
    rounds: rounds
      .filter(({ round }) => round % 2 === 0)
      .map(({ at, ms }): Point => [Math.max(from, at - ms), at])
      .filter(([began, ended]) => ended > began),
    events: events.filter(({ at }) => at >= from),
  };
  return {
    title,
    caption,
    wide: true,
    draw: (id, width) => timelineChart({ ...chart, id }, width),
    legend: [
      ...decisionLegend(chart.decisions),
      ...spellLegend(spells),
      ...seriesLegend(panels.flatMap(({ series }) => series)),
    ],
    table: roundTable(story),
  };
}

/** Lines from there on; what held before holds at the edge. */
function since(panel: Panel, from: number): Panel {
  const series = panel.series.map((one) => {
    const held = one.shape === 'step' ? one.points.findLast(([at]) => at < from) : undefined;
    const points = one.points.filter(([at]) => at >= from);
    return { ...one, points: held === undefined ? points : [[from, held[1]] as const, ...points] };
  });
  const { band } = panel;
  const points = band?.points.filter(([at]) => at >= from) ?? [];
  return { ...panel, series, band: band && { ...band, points } };
}

function spellsOf(story: Story): Spell[] {
  const suspended = suspendedIn(story);
  const lost = story.outages.map(({ at, ms }): Spell => ({ from: at, to: at + ms, kind: 'lost' }));
  if (suspended === undefined) return lost;
  return [...lost, { from: suspended[0], to: suspended[1], kind: 'suspended' }];
}

/** What the policy answered where everything is known, and whatever ended the rounds. */
function decisionsOf({ consultations }: Story): Decision[] {
  const decides = ({ stats, verdict }: ConsultationRecord, i: number) =>
    stats.when === 'before-round' ||
    verdict.action === 'abort' ||
    verdict.action === 'stop-and-copy' ||
    verdict.action !== consultations[i - 1]?.verdict.action;
  return consultations.filter(decides).map(({ at, stats, verdict }) => ({
    at,
    action: verdict.action,
    text: `${formatDuration(at)}, ${where(stats)}: ${verdict.action}: ${verdict.reason}`,
  }));
}

function decisionLegend(decisions: readonly Decision[]): LegendEntry[] {
  const swatches = [
    ['continue', 'swatch-dot ink-main'],
    ['hold', 'swatch-dot hollow-dot ink-main'],
    ['stop-and-copy', 'swatch-diamond ink-second'],
    ['abort', 'swatch-diamond ink-alarm'],
  ] as const;
  return swatches.flatMap(([text, swatch]) =>
    decisions.some(({ action }) => action === text) ? [{ text, swatch }] : [],
  );
}

function spellLegend(spells: readonly Spell[]): LegendEntry[] {
  const of = (kind: Spell['kind'], text: string) => {
    const those = spells.filter((spell) => spell.kind === kind);
    const ms = those.reduce((sum, { from, to }) => sum + to - from, 0);
    const entry = { text: `${text} ${formatDuration(ms)}`, swatch: `swatch-spell spell-${kind}` };
    return those.length === 0 || !isFigure(ms) ? [] : [entry];
  };
  return [...of('suspended', 'guest suspended'), ...of('lost', 'connection lost')];
}

function roundTable({ rounds, consultations }: Story): Table {
  const after = new Map(
    consultations
      .filter(({ stats }) => stats.when === 'before-round')
      .map(({ stats }) => [stats.iteration, stats]),
  );
  const row = ({ round, at, ms, dirtyPages, sentPages, wireBytes }: RoundRecord) => {
    const next = after.get(round);
    const pace = (bytes: number) => (ms > 0 ? formatRate((bytes * 1000) / ms) : '–');
    return [
      count(round),
      formatDuration(at),
      formatDuration(ms),
      count(dirtyPages),
      formatSize(dirtyPages * PAGE_SIZE),
      count(sentPages),
      formatSize(wireBytes),
      pace(wireBytes),
      pace(sentPages * PAGE_SIZE),
      next !== undefined && isFigure(next.dirtyRate) && next.dirtyRate >= 0
        ? `${count(next.dirtyRate)}/s`
        : '–',
      next?.estimate ? forecastInWords(next.estimate) : '–',
    ];
  };
  const head = [
    ...['round', 'ended', 'took', 'pages to send', 'memory', 'pages sent', 'wire', 'wire rate'],
    ...['memory rate', 'dirty pages', 'forecast after it'],
  ];
  return { head, rows: boundedRows(rounds, row) };
}
