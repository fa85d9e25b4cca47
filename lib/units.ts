import { GodwitError } from './errors.ts';

/**
 * Durations, sizes, bandwidths and counts as an operator writes and reads them. Units are part of
 * the text: a bare number is refused, because nobody can tell 300 ms from 300 s by looking at it.
 */

/** Allowed values, in the unit that the parser returns; both ends included. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
}

const DURATION_UNITS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const SIZE_UNITS: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

const BIT_UNITS: Record<string, number> = {
  bit: 1 / 8,
  kbit: 1e3 / 8,
  mbit: 1e6 / 8,
  gbit: 1e9 / 8,
};

interface Quantity {
  /** What the quantity is called in an error. */
  readonly noun: string;
  readonly units: string;
  readonly factorOf: (unit: string) => number | undefined;
  readonly format: (value: number) => string;
}

const DURATION: Quantity = {
  noun: 'a duration',
  units: 'ms, s, m, h, d (as in 300ms or 2m)',
  factorOf: (unit) => DURATION_UNITS[unit.toLowerCase()],
  format: formatDuration,
};

const SIZE: Quantity = {
  noun: 'a size',
  units: 'B, KiB, MiB, GiB, TiB, kB, MB, GB, TB (as in 256MiB)',
  factorOf: (unit) => SIZE_UNITS[unit.toLowerCase()],
  format: formatSize,
};

const BANDWIDTH: Quantity = {
  noun: 'a bandwidth',
  units: 'bit, kbit, mbit, gbit, KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s (as in 1gbit or 50MiB/s)',
  factorOf: bandwidthFactor,
  format: formatRate,
};

/** Milliseconds of a text such as `300ms`, `1.5s`, `2m`, `1h`. @throws GodwitError bad-option */
export function parseDuration(text: string, option: string, range: Range = {}): number {
  return parseQuantity(DURATION, text, option, range);
}

/** Bytes of a text such as `4KiB`, `256MiB`, `1GB`; whole bytes. @throws GodwitError bad-option */
export function parseSize(text: string, option: string, range: Range = {}): number {
  return Math.round(parseQuantity(SIZE, text, option, range));
}

/** Bytes per second of a text such as `1gbit`, `50MiB/s`. @throws GodwitError bad-option */
export function parseBandwidth(text: string, option: string, range: Range = {}): number {
  return parseQuantity(BANDWIDTH, text, option, range);
}

/** A whole number without a unit: rounds, pages, threads, ports. @throws GodwitError bad-option */
export function parseCount(text: string, option: string, range: Range = {}): number {
  const limits = { min: range.min ?? 0, max: range.max ?? Number.MAX_SAFE_INTEGER };
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= limits.min && value <= limits.max) return value;
  const allowed = range.max === undefined ? `from ${limits.min}` : `${limits.min} to ${limits.max}`;
  throw badOption(option, text, `it takes a whole number ${allowed}`);
}

/** `0.4 ms`, `38 ms`, `2.50 s`, `3 m 05 s`, `1 h 02 m`. */
export function formatDuration(ms: number): string {
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 10) return `${trimmed(ms, 1)} ms`;
  if (Math.round(ms) < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_995) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${twoDigits(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} m`;
}

/** `512 B`, `4 KiB`, `1.5 GiB`. */
export function formatSize(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
}

/** Bytes per second as `118.4 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatSize(bytesPerSecond)}/s`;
}

function parseQuantity(quantity: Quantity, text: string, option: string, range: Range): number {
  const { noun, units, factorOf } = quantity;
  const match = /^(\d+(?:\.\d+)?)\s*([a-z/]*)$/i.exec(text);
  if (match === null) throw badOption(option, text, `it takes ${noun} in ${units}`);
  const [, digits = '', unit = ''] = match;
  if (unit === '')
    throw badOption(option, text, `a bare number is ambiguous; give a unit: ${units}`);
  const factor = factorOf(unit);
  if (factor === undefined) throw badOption(option, text, `"${unit}" is not one of ${units}`);
  const value = Number(digits) * factor;
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = range;
  if (value < min || value > max)
    throw badOption(option, text, `allowed is ${rangeText(quantity, range)}`);
  return value;
}

/** A lower-case `b` after a prefix may mean bits or bytes, so bytes need their capital here. */
function bandwidthFactor(unit: string): number | undefined {
  const bits = BIT_UNITS[unit.toLowerCase().replace(/\/s$/, '')];
  if (bits !== undefined) return bits;
  const bytes = /^([kmg]?i?B)\/s$/i.exec(unit)?.[1];
  return bytes?.endsWith('B') ? SIZE_UNITS[bytes.toLowerCase()] : undefined;
}

function rangeText({ format }: Quantity, { min = 0, max }: Range): string {
  return max === undefined ? `at least ${format(min)}` : `${format(min)} to ${format(max)}`;
}

function badOption(option: string, text: string, why: string): GodwitError {
  return new GodwitError('bad-option', `${option} cannot be "${text}": ${why}`);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let unit = 0;
  while (Number(value.toFixed(1)) >= step && unit < units.length - 1) {
    value /= step;
    unit++;
  }
  return `${trimmed(value, unit === 0 ? 0 : 1)} ${units[unit]}`;
}

function trimmed(value: number, decimals: number): string {
  return Number(value.toFixed(decimals)).toString();
}

function twoDigits(value: number): string {
  return value.toString().padStart(2, '0');
}
