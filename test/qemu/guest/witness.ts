import type { GuestShape } from './command-line.ts';
import type { GuestSite } from './guest-site.ts';
import type { ConsoleLine, SerialConsole } from './serial-console.ts';

/** One heartbeat: its number, CLOCK_MONOTONIC in the guest, and its arrival on the host, in ms. */
export interface Beat {
  readonly number: number;
  readonly guestMs: number;
  readonly at: number;
}

/** What a guest has said, on one console or on several. */
export interface Verdict {
  /** Nothing is wrong, and something was said. */
  readonly clean: boolean;
  /** What the guest found wrong, and what is wrong with its heartbeats. */
  readonly bad: readonly string[];
  readonly beats: readonly Beat[];
  /** How often it has checked all pages of a processor, the file, the disk; and had an answer. */
  readonly pageChecks: number;
  readonly fileChecks: number;
  readonly diskChecks: number;
  readonly networkAnswers: number;
}

/** @param consoles in the order in which the guest was on them */
export function verdict(...consoles: readonly SerialConsole[]): Verdict {
  const lines = consoles.flatMap((console) => console.lines);
  const count = (pattern: RegExp) => lines.filter((line) => pattern.test(line.text)).length;
  const beats = beatsIn(lines);
  const found = lines.map((line) => line.text).filter((text) => /BAD|Kernel panic/.test(text));
  const bad = [...found, ...wrongBeats(beats)];
  return {
    clean: bad.length === 0 && beats.length > 0,
    bad,
    beats,
    pageChecks: count(/^checked/),
    fileChecks: count(/^md5 ok|^BAD md5/),
    diskChecks: count(/^disk ok/),
    networkAnswers: count(/^net ok/),
  };
}

/** Waits until the guest has checked everything from now on. What it finds wrong is in the verdict. */
export function fullCheck(site: GuestSite): Promise<void> {
  return reports(site, 2); // what the next report is about may have begun before
}

/** Waits for that many reports about everything that the guest checks, from an index into its lines on. */
export function reports(site: GuestSite, count: number, from?: number): Promise<void> {
  return reportsOf(site.console, site.shape, count, from);
}

/** As `reports`, of a guest of that shape on that console. */
export async function reportsOf(
  console: SerialConsole,
  { workload, cpus, devices }: Pick<GuestShape, 'workload' | 'cpus' | 'devices'>,
  count: number,
  from?: number,
): Promise<void> {
  const processors = workload.checkedMiB > 0 ? cpus : 0;
  const kinds = Array.from({ length: processors }, (_, cpu) => `checked ${cpu}:`);
  if (workload.md5MiB > 0) kinds.push('md5 ok|BAD md5');
  if (devices.includes('disk')) kinds.push('disk ok');
  if (devices.includes('net')) kinds.push('net ok');
  const patterns = ['beat', ...kinds].map((kind) => new RegExp(`^(${kind})`));
  await Promise.all(patterns.map((pattern) => console.line(pattern, { count, from })));
}

export function beatsIn(lines: readonly ConsoleLine[]): Beat[] {
  return lines.flatMap(({ text, at }) => {
    const [, number, guestMs] = /^beat (\d+) ([\d.]+)$/.exec(text) ?? [];
    return number === undefined ? [] : [{ number: Number(number), guestMs: Number(guestMs), at }];
  });
}

/** Each follows the one before it: a lost beat is lost output, a repeated one a second guest that runs. */
function wrongBeats(beats: readonly Beat[]): string[] {
  return beats.flatMap((beat, index) => {
    const before = beats[index - 1];
    if (before === undefined || beat.number === before.number + 1) return [];
    return [`beat ${beat.number} came after beat ${before.number}`];
  });
}

export interface Gap {
  /** The beats before and after it. */
  readonly from: Beat;
  readonly to: Beat;
  /** By the host's clock. */
  readonly hostMs: number;
  /** By the guest's own, which stands still while the guest is suspended. */
  readonly guestMs: number;
}

function gapBetween(from: Beat, to: Beat): Gap {
  return { from, to, hostMs: to.at - from.at, guestMs: to.guestMs - from.guestMs };
}

/** The longest time without a beat, as someone sees it who waits for the guest. Needs two beats. */
export function longestGap(beats: readonly Beat[]): Gap {
  const gaps = beats.slice(1).map((to, index) => gapBetween(beats[index]!, to));
  return gaps.reduce((longest, gap) => (gap.hostMs > longest.hostMs ? gap : longest));
}

/** From the last beat at the source to the first at the destination: one of each must have been heard. */
export function switchoverGap(source: SerialConsole, destination: SerialConsole): Gap {
  return gapBetween(beatsIn(source.lines).at(-1)!, beatsIn(destination.lines)[0]!);
}

/** Beats on either side of a suspension, of which the one that was heard soonest counts. */
const AROUND = 20;

/**
 * The longest time for which the guest stood still, ms: how far its own clock, which stands still with
 * it, fell behind the host's at once. A line that is heard late changes nothing, unless all around it are.
 * Needs some more than AROUND beats before and after; 0 of fewer.
 */
export function longestStandstill(beats: readonly Beat[]): number {
  const behind = beats.map(({ at, guestMs }) => at - guestMs);
  const jumps = behind
    .slice(AROUND, -AROUND)
    .map(
      (_, i) =>
        Math.min(...behind.slice(i + AROUND, i + 2 * AROUND)) -
        Math.min(...behind.slice(i, i + AROUND)),
    );
  return Math.max(0, ...jumps);
}
