import { holdInWords } from '../precopy/hold.ts';
import type { PolicyLimits } from '../precopy/stats.ts';
import type { Caps } from '../precopy/suspension-rate.ts';
import { formatRate } from '../units.ts';
import type { StartRecord } from './records.ts';

/** `262,144`. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** `1 page`, `262,144 pages`. */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${Math.round(value) === 1 ? '' : 's'}`;
}

/** A share of 1 as `34 %`; small but not nothing is `< 1 %`. */
export function percent(share: number): string {
  if (share > 0 && share < 0.01) return '< 1 %';
  if (share > 0.99 && share < 1) return '> 99 %';
  return `${Math.round(share * 100)} %`;
}

/**
 * Text from outside without what could take over a terminal or turn the reading direction of a
 * page: control and bidirectional characters become U+FFFD.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, '\u{fffd}');
}

/** A label column and sentences, no trailing newline; lines without a text are left out. */
export function labelled(lines: readonly (readonly [string, string | undefined])[]): string {
  return lines
    .flatMap(([label, text]) =>
      text === undefined ? [] : `  ${label.padEnd(12)}${printable(text)}`,
    )
    .join('\n');
}

/** All limits that are set, in words; the caps are among them. */
export function limitsInWords(
  limits: PolicyLimits,
  { bandwidth, suspendBandwidth }: Caps,
  policy: StartRecord['policy'],
): string {
  const parts = [
    named('suspend at most', limits.maxSuspendMs),
    named('whole move at most', limits.timeoutMs),
    named('pause below', limits.pauseBelowMs),
    named('abort above', limits.abortAboveMs),
    `prefer ${printable(String(limits.prefer))}`,
    limits.hold ? `hold ${printable(holdInWords(String(limits.hold)))}` : undefined,
    ...(policy === 'xen' ? xenLimits(limits) : []),
    isFigure(bandwidth) ? `bandwidth at most ${formatRate(bandwidth)}` : undefined,
    isFigure(suspendBandwidth) ? `suspended at most ${formatRate(suspendBandwidth)}` : undefined,
  ];
  return parts.filter((part) => part !== undefined).join(', ');
}

/** A limit or a tick, which is a round figure: `300 ms`, `1.5 s`, `2 m`, `1 m 30`, `1 h`. */
export function shortDuration(ms: number): string {
  if (ms < 1000) return `${shortNumber(ms)} ms`;
  if (ms < MINUTE) return `${shortNumber(ms / 1000)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} m${remainder((ms % MINUTE) / 1000)}`;
  return `${Math.floor(ms / HOUR)} h${remainder((ms % HOUR) / MINUTE)}`;
}

/** At most four digits that mean something. */
export function shortNumber(value: number): string {
  return Number(value.toPrecision(4)).toString();
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

function remainder(value: number): string {
  return value < 0.5 ? '' : ` ${Math.floor(value).toString().padStart(2, '0')}`;
}

/** A number that can be drawn or printed: JSON turns what is not finite into null. */
export function isFigure(value: number | null | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function xenLimits({ maxIters, minRemaining }: PolicyLimits): (string | undefined)[] {
  return [
    isFigure(maxIters) ? `at most ${plural(maxIters, 'round')}` : undefined,
    isFigure(minRemaining) ? `stop below ${plural(minRemaining, 'page')}` : undefined,
  ];
}

function named(label: string, ms: number | undefined): string | undefined {
  return isFigure(ms) ? `${label} ${shortDuration(ms)}` : undefined;
}
