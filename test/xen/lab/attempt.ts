import assert from 'node:assert/strict';
import { type Bed, type Move, WIDE } from './bed.ts';

export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** @returns what is to be read of it in the table */
  readonly run: (bed: Bed) => Promise<string>;
}

/** Slow enough that something can happen in the first round. */
export const SLOW = `${WIDE} --bandwidth 1MiB/s`;

export async function moved(bed: Bed): Promise<string> {
  await bed.boot();
  await bed.mustMove();
  return gap(bed);
}

/**
 * A move that comes to nothing, by itself or once `strike` has struck in its first round. The next scenario is the
 * next attempt.
 * @param why in what xl and its transport say
 */
export async function stays(
  bed: Bed,
  options: string,
  why: RegExp,
  strike?: () => Promise<void>,
): Promise<string> {
  await bed.boot();
  const { source } = bed;
  const move = bed.begin(options);
  if (strike !== undefined) {
    await move.says(/round 1/);
    await strike();
  }
  const code = await move.ended();
  assert.notEqual(code, 0, `it has moved\n${move.said}`);
  assert.match(move.said, why);
  await bed.mustRunAt(source);
  return `stays: ${said(move.said)}, ${gap(bed)}`;
}

/** Where it runs in the end. @param ends where that must be */
export async function concluded(
  bed: Bed,
  move: Move,
  ends: 'stays' | 'moves' | undefined = undefined,
): Promise<string> {
  const { source } = bed;
  const code = await move.ended();
  const host = await bed.mustRunSomewhere();
  const ended = host === source ? 'stays' : 'moves';
  if (ends !== undefined) assert.equal(ended, ends, move.said);
  return `${ended}: ${code === 0 ? 'xl is content' : said(move.said)}, ${gap(bed)}`;
}

export function gap(bed: Bed): string {
  const { ms } = bed.heartbeat.longestGap();
  return `no beat for ${(ms / 1000).toFixed(2)} s`;
}

/** The word that tells xl's ends apart. */
export function said(text: string): string {
  const words = ['Resumed OK', 'resuming at sender', 'failed to suspend at sender'];
  return words.find((one) => text.includes(one)) ?? 'xl ends';
}
