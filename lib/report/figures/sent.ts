import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { Point } from '../chart/series.ts';
import type { Story } from '../story.ts';
import { isFigure } from '../words.ts';

export interface Sent {
  readonly at: number;
  readonly wire: number;
  readonly guest: number;
}

/** Cumulative bytes; the last round is not consulted about, so its end is added to them. */
export function sentOverTime({ consultations, rounds, end }: Story): Sent[] {
  const sent: Sent[] = [{ at: 0, wire: 0, guest: 0 }];
  const push = (at: number, wire: number, pages: number) => {
    const last = sent.at(-1)!;
    const next = {
      at,
      wire: Math.max(wire, last.wire),
      guest: Math.max(pages * PAGE_SIZE, last.guest),
    };
    if (at > last.at && isFigure(next.wire) && isFigure(next.guest)) sent.push(next);
  };
  for (const { at, stats } of consultations) push(at, stats.wireBytes, stats.totalWritten);
  const last = rounds.at(-1);
  if (last?.stopAndCopy) {
    const { wire, guest } = sent.at(-1)!;
    push(last.at, wire + last.wireBytes, guest / PAGE_SIZE + last.sentPages);
  }
  if (end !== undefined) push(end.at, end.wireBytes, end.pages);
  return sent;
}

/** More bins than this would be noise: consultations are about 200 ms apart. */
const BINS = 80;
const MIN_BIN_MS = 50;

/** Rate per second of a rising cumulative curve, in even bins; the value holds from its bin's start. */
export function rates(cumulative: readonly Point[]): Point[] {
  const until = cumulative.at(-1)?.[0] ?? 0;
  if (!(until > 0)) return [];
  const bins = Math.max(1, Math.min(BINS, Math.floor(until / MIN_BIN_MS)));
  const width = until / bins;
  const result: Point[] = [];
  let before = 0;
  for (let i = 1; i <= bins; i++) {
    const now = interpolate(cumulative, i * width);
    result.push([(i - 1) * width, ((now - before) * 1000) / width]);
    before = now;
  }
  return [...result, [until, result.at(-1)![1]]];
}

function interpolate(points: readonly Point[], at: number): number {
  const next = points.findIndex(([x]) => x >= at);
  const right = points[next] ?? points.at(-1)!;
  const left = points[Math.max(0, next - 1)]!;
  if (right[0] <= left[0] || at >= right[0]) return right[1];
  return left[1] + ((right[1] - left[1]) * (at - left[0])) / (right[0] - left[0]);
}
