import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { PolicyLimits } from '../../precopy/stats.ts';
import { formatDuration, formatRate } from '../../units.ts';
import type { Point, Series } from '../chart/series.ts';
import type { Panel } from '../chart/timeline.ts';
import { seenMs } from '../promise.ts';
import type { CpuTimes, SuspensionRecord } from '../records.ts';
import { type Story, suspendedIn } from '../story.ts';
import { isFigure, shortDuration } from '../words.ts';
import { rates, sentOverTime } from './sent.ts';

/** Heights: the first one is the heart of the contract, px. */
const FORECAST = 170;
const OTHER = 76;
/** A line over less than this share of the time is a point. */
const SEEN_SHARE = 0.02;

/** What the ledger has figures for, in reading order. */
export function panelsOf(story: Story): Panel[] {
  const panels = [forecast(story), left(story), paces(story), wire(story), processors(story)];
  return panels.filter((panel) => panel !== undefined && isSeen(panel, story.until)) as Panel[];
}

/** Guides alone, or points at one time, are an empty box. */
function isSeen({ series }: Panel, until: number): boolean {
  return series.some(({ stroke, points }) => {
    const times = points.map(([at]) => at);
    const [first = 0, last = 0] = [times[0], times.at(-1)];
    return stroke === 'data' && last - first > until * SEEN_SHARE;
  });
}

/** The forecast with everything it is measured against. */
function forecast(story: Story): Panel | undefined {
  const known = story.consultations.flatMap(({ at, stats: { estimate } }) =>
    estimate && isFigure(estimate.expected) ? [{ at, estimate }] : [],
  );
  if (known.length === 0) return undefined;
  const series = [
    data(
      'forecast',
      'main',
      known.map(({ at, estimate }): Point => [at, estimate.expected]),
    ),
    ...guides(story),
  ];
  if (story.suspension !== undefined) series.push(actual(story, story.suspension));
  return {
    ...{ name: 'forecast of the suspension', quantity: 'duration', shape: 'auto', series },
    band: {
      tone: 'main',
      points: known.map(({ at, estimate: { low, high } }) => [at, low, high] as const),
    },
    height: FORECAST,
  };
}

function actual(story: Story, suspension: SuspensionRecord): Series {
  const seen = seenMs(suspension);
  const who = isFigure(suspension.guestMs) ? 'guest saw' : 'agents timed';
  const at = suspendedIn(story)?.[0] ?? suspension.at;
  const name = `${who} ${formatDuration(seen)}`;
  return { ...data(name, 'second', [[at, seen]]), mark: 'diamond' };
}

/** Limit and thresholds as steps, since they may change in flight; equal ones share a line. */
function guides(story: Story): Series[] {
  const changes = [{ at: 0, limits: story.start.limits }, ...story.limits];
  const kinds = [
    ['limit', 'maxSuspendMs', 'alarm', 'solid-guide'],
    ['abort above', 'abortAboveMs', 'quiet', 'dashed-guide'],
    ['pause below', 'pauseBelowMs', 'quiet', 'dotted-guide'],
  ] as const;
  const merged = new Map<string, Series>();
  for (const [name, field, tone, stroke] of kinds) {
    const points = guidePoints(changes, field);
    const last = points.at(-1)?.[1];
    if (last === undefined) continue;
    const key = JSON.stringify(points);
    const known = merged.get(key);
    const label =
      known === undefined ? `${name} ${shortDuration(last)}` : `${name} = ${known.name}`;
    merged.set(key, { ...(known ?? { tone, stroke, points, shape: 'step' }), name: label });
  }
  return [...merged.values()];
}

function guidePoints(
  changes: readonly { at: number; limits: PolicyLimits }[],
  field: 'maxSuspendMs' | 'abortAboveMs' | 'pauseBelowMs',
): Point[] {
  return changes.flatMap(({ at, limits }): Point[] => {
    const value = limits[field];
    return isFigure(value) ? [[at, value]] : [];
  });
}

/** Memory of the running round that is not sent yet. */
function left({ consultations, rounds }: Story): Panel {
  const points: Point[] = [];
  let begun: { readonly pages: number; readonly written: number } | undefined;
  for (const { at, stats } of consultations) {
    const { dirtyCount, totalWritten } = stats;
    if (dirtyCount >= 0) begun = { pages: dirtyCount, written: totalWritten };
    if (begun === undefined) continue;
    const pages = begun.pages - (totalWritten - begun.written);
    points.push([at, Math.max(0, pages) * PAGE_SIZE]);
  }
  const last = rounds.findLast(({ stopAndCopy }) => stopAndCopy);
  if (last !== undefined)
    points.push(
      [last.at - last.ms, last.dirtyPages * PAGE_SIZE],
      [last.at, Math.max(0, last.dirtyPages - last.sentPages) * PAGE_SIZE],
    );
  const series = [data('left to send', 'main', points)];
  return { name: 'memory left to send', quantity: 'size', shape: 'auto', series, height: OTHER };
}

/** How fast the guest writes against how fast the link drains, in guest memory. */
function paces({ consultations }: Story): Panel {
  const dirty = consultations
    .filter(({ stats }) => stats.when === 'before-round' && stats.iteration > 0)
    .filter(({ stats }) => isFigure(stats.dirtyRate) && stats.dirtyRate >= 0)
    .map(({ at, stats }): Point => [at, stats.dirtyRate * PAGE_SIZE]);
  const drain = consultations
    .filter(({ stats }) => isFigure(stats.drainRate) && stats.drainRate > 0)
    .map(({ at, stats }): Point => [at, stats.drainRate]);
  const series = [
    { ...data('guest writes', 'second', dirty), shape: 'step' as const },
    data('memory sent', 'third', drain),
  ];
  const name = 'dirty rate and memory sent';
  return { name, quantity: 'rate', shape: 'auto', series, height: OTHER };
}

function wire(story: Story): Panel | undefined {
  const points = rates(sentOverTime(story).map(({ at, wire }) => [at, wire]));
  if (!points.some(([, rate]) => rate > 0)) return undefined;
  const series = [
    { ...data('on the wire', 'main', points), shape: 'step' as const },
    ...bandwidthCap(story),
  ];
  return { name: 'bytes on the wire', quantity: 'rate', shape: 'linear', series, height: OTHER };
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

/** Of one core, by all that the agents did. */
function processors({ consultations, end }: Story): Panel {
  const told = [...consultations, ...(end === undefined ? [] : [end])];
  const used = (of: (cpu: CpuTimes) => number | undefined) => {
    const sum: Point[] = [[0, 0]];
    for (const { at, cpu } of told) {
      const ms = cpu && of(cpu);
      const [lastAt, lastMs] = sum.at(-1)!;
      // The other side is heard of once a second: between two words it went on evenly.
      if (isFigure(ms) && isFigure(at) && at > lastAt && ms > lastMs) sum.push([at, ms]);
    }
    return rates(sum).map(([at, msEachSecond]): Point => [at, msEachSecond / 1000]);
  };
  const series = [
    data(
      'agent-send',
      'main',
      used(({ sourceMs }) => sourceMs),
    ),
    data(
      'agent-recv',
      'third',
      used(({ destinationMs }) => destinationMs),
    ),
  ];
  const name = 'processors of the agents, 100 % is one core';
  return { name, quantity: 'share', shape: 'linear', series, height: OTHER };
}

function data(name: string, tone: Series['tone'], points: readonly Point[]): Series {
  return { name, tone, points, shape: 'line', stroke: 'data' };
}
