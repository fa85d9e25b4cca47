import { formatSize } from '../../units.ts';
import { isFigure, shortDuration, shortNumber } from '../words.ts';

/** What an axis measures: it decides what round numbers are and how they are written. */
export type Quantity = 'count' | 'duration' | 'size' | 'rate' | 'share';

/** Maps values to 0..1, rising; `ticks` are round values inside the domain. */
export interface Scale {
  readonly quantity: Quantity;
  readonly log: boolean;
  readonly min: number;
  readonly max: number;
  readonly ticks: readonly number[];
}

/** Above this ratio of largest to smallest value a linear axis would flatten the small ones. */
const LOG_FROM = 50;
/** No quantity here is that small: a nanosecond is 1e-6 ms. Below it the arithmetic would suffer. */
const NOTHING = 1e-6;

/**
 * A scale for values that start at zero, or a logarithmic one where their range needs it. Sums and
 * rates that readers compare by height want `linear`.
 * @param ticks about how many ticks there is room for
 */
export function valueScale(
  quantity: Quantity,
  values: readonly number[],
  ticks: number,
  shape: 'auto' | 'linear' = 'auto',
): Scale {
  const positive = values.filter((value) => isFigure(value) && value > NOTHING);
  const low = positive.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = positive.reduce((a, b) => Math.max(a, b), 0);
  if (positive.length === 0) return linearScale(quantity, 0, 1, ticks);
  if (shape === 'auto' && high / low > LOG_FROM) return logScale(quantity, low, high, ticks);
  const step = roundStep(quantity, high / ticks);
  return linearScale(quantity, 0, Math.ceil(high / step - 1e-9) * step, ticks);
}

/** A linear scale over exactly this domain. */
export function linearScale(quantity: Quantity, min: number, max: number, ticks: number): Scale {
  const top = max > min ? max : min + 1;
  const step = roundStep(quantity, (top - min) / ticks);
  const first = Math.ceil(min / step - 1e-9);
  const last = Math.floor(top / step + 1e-9);
  const values = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  return { quantity, log: false, min, max: top, ticks: values };
}

/** Where a value lies, 0..1; values outside the domain are put on its edge. */
export function position({ log, min, max }: Scale, value: number): number {
  const part = log
    ? Math.log(Math.max(value, min) / min) / Math.log(max / min)
    : (value - min) / (max - min);
  return Math.min(1, Math.max(0, part));
}

/** A tick as short as it can be written: `0`, `500 ms`, `1.5 s`, `20 k`, `512 MiB`. */
export function tickText(quantity: Quantity, value: number): string {
  if (quantity === 'share') return `${shortNumber(value * 100)} %`;
  if (value === 0) return '0';
  if (quantity === 'duration') return shortDuration(value);
  if (quantity === 'size') return formatSize(value);
  if (quantity === 'rate') return `${formatSize(value)}/s`;
  if (value >= 1e9) return `${shortNumber(value / 1e9)} G`;
  if (value >= 1e6) return `${shortNumber(value / 1e6)} M`;
  return value >= 1e4 ? `${shortNumber(value / 1e3)} k` : shortNumber(value);
}

function logScale(quantity: Quantity, low: number, high: number, ticks: number): Scale {
  const decades = decadesOf(quantity, low, high);
  const fine = decades.flatMap((decade) => [1, 2, 5].map((digit) => digit * decade));
  const min = fine.findLast((value) => value <= low * (1 + 1e-9)) ?? low;
  const max = fine.find((value) => value >= high * (1 - 1e-9)) ?? high;
  const within = (value: number) => value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9);
  const coarse = decades.filter(within);
  const inside = coarse.length >= 3 ? coarse : fine.filter(within);
  const every = Math.max(1, Math.ceil(inside.length / Math.max(2, ticks)));
  return { quantity, log: true, min, max, ticks: inside.filter((_, i) => i % every === 0) };
}

/** Powers of ten of the unit in which such a value is written, from below low to above high. */
function decadesOf(quantity: Quantity, low: number, high: number): number[] {
  if (quantity === 'duration' && high > 120_000)
    return [0.1, 1, 10, 100, 1000, 10_000, 60_000, 600_000, 3_600_000, 36_000_000, 360_000_000];
  const binary = quantity === 'size' || quantity === 'rate';
  const values: number[] = [];
  if (!binary) {
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      values.push(10 ** e);
    return values;
  }
  for (let unit = 1; unit <= Math.max(1, high); unit *= 1024)
    values.push(unit, unit * 10, unit * 100);
  return low < 1 ? [low, ...values] : values;
}

/** The first round step that is not smaller. */
function roundStep(quantity: Quantity, atLeast: number): number {
  if (!(atLeast > 0)) return 1;
  if (quantity === 'duration') return durationStep(atLeast);
  if (quantity === 'size' || quantity === 'rate') return binaryStep(atLeast);
  const step = decimalStep(atLeast);
  return quantity === 'count' ? Math.max(1, step) : step;
}

function decimalStep(atLeast: number): number {
  const decade = 10 ** Math.floor(Math.log10(atLeast));
  return decade * ([1, 2, 5, 10].find((digit) => digit * decade >= atLeast * (1 - 1e-9)) ?? 10);
}

/** Whole units, then halves and quarters of the next one. */
const BINARY_STEPS = [1, 2, 5, 10, 20, 50, 100, 256, 512];

function binaryStep(atLeast: number): number {
  let unit = 1;
  while (unit * 512 < atLeast) unit *= 1024;
  return unit * (BINARY_STEPS.find((step) => step * unit >= atLeast * (1 - 1e-9)) ?? 512);
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

function durationStep(atLeast: number): number {
  if (atLeast <= 10_000) return decimalStep(atLeast);
  const steps = [
    ...[15_000, 30_000, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE],
    ...[HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR],
  ];
  return steps.find((step) => step >= atLeast) ?? decimalStep(atLeast / HOUR) * HOUR;
}
