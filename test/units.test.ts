import { describe, expect, test } from 'vitest';
import { GodwitError } from '../lib/errors.ts';
import {
  formatDuration,
  formatRate,
  formatSize,
  parseBandwidth,
  parseCount,
  parseDuration,
  parseSize,
} from '../lib/units.ts';

function refusal(attempt: () => unknown): string {
  try {
    attempt();
  } catch (error) {
    if (error instanceof GodwitError && error.code === 'bad-option') return error.message;
    throw error;
  }
  throw new Error('was accepted');
}

describe('parsing', () => {
  test.each([
    ['300ms', 300],
    ['2s', 2000],
    ['1.5s', 1500],
    ['2m', 120_000],
    ['1h', 3_600_000],
    ['0ms', 0],
    ['10 s', 10_000],
  ])('duration %s', (text, ms) => expect(parseDuration(text, '--timeout')).toBe(ms));

  test.each([
    ['4KiB', 4096],
    ['256MiB', 256 * 2 ** 20],
    ['1GB', 1e9],
    ['1.5gib', 1.5 * 2 ** 30],
    ['17B', 17],
  ])('size %s', (text, bytes) => expect(parseSize(text, '--memory')).toBe(bytes));

  test.each([
    ['1gbit', 125e6],
    ['100mbit', 12.5e6],
    ['100Mbit/s', 12.5e6],
    ['50MiB/s', 50 * 2 ** 20],
    ['1GB/s', 1e9],
  ])('bandwidth %s', (text, rate) => expect(parseBandwidth(text, '--bandwidth')).toBe(rate));

  test('count', () => {
    expect(parseCount('5', '--max-iters')).toBe(5);
    expect(parseCount('0', '--max-iters', { min: 0, max: 9 })).toBe(0);
  });
});

describe('refusing', () => {
  test('a bare number names the option and the units', () => {
    const said = refusal(() => parseDuration('300', '--max-suspend-time'));
    expect(said).toContain('--max-suspend-time');
    expect(said).toContain('bare number');
    expect(said).toContain('300ms');
    expect(refusal(() => parseSize('512', '--memory'))).toContain('MiB');
    expect(refusal(() => parseBandwidth('100', '--bandwidth'))).toContain('gbit');
  });

  test.each(['', 'ms', '-5ms', '1e3s', '3 weeks', '0x10s', '5msx', 'Infinity', '٣s'])(
    'duration %j',
    (text) => expect(refusal(() => parseDuration(text, '--timeout'))).toContain('--timeout'),
  );

  test.each(['1M', '1G', '5gbit', '1.2.3MiB'])('size %j', (text) =>
    expect(refusal(() => parseSize(text, '--memory'))).toContain('--memory'),
  );

  test.each(['100Mb/s', '100mb', '50MiB', '1gbps'])('bandwidth %j', (text) =>
    expect(refusal(() => parseBandwidth(text, '--bandwidth'))).toContain('--bandwidth'),
  );

  test('values out of range, saying the range in units', () => {
    const range = { min: 10, max: 60_000 };
    expect(parseDuration('10ms', '--x', range)).toBe(10);
    expect(parseDuration('1m', '--x', range)).toBe(60_000);
    expect(refusal(() => parseDuration('9ms', '--x', range))).toContain('10 ms to 1 m 00 s');
    expect(refusal(() => parseDuration('61s', '--x', range))).toContain('10 ms to 1 m 00 s');
    expect(refusal(() => parseSize('1B', '--x', { min: 4096 }))).toContain('at least 4 KiB');
  });

  test.each(['', '1.5', '-1', '5x', '11', '99999999999999999999'])('count %j', (text) =>
    expect(refusal(() => parseCount(text, '--n', { min: 0, max: 10 }))).toContain('0 to 10'),
  );
});

test('durations read well at every scale', () => {
  const shown = [0, 0.42, 9.96, 37.6, 999.7, 2500, 59_996, 185_000, 3_720_000, -12].map(
    formatDuration,
  );
  expect(shown).toEqual([
    ...['0 ms', '0.4 ms', '10 ms', '38 ms', '1.00 s', '2.50 s', '1 m 00 s', '3 m 05 s'],
    ...['1 h 02 m', '-12 ms'],
  ]);
});

test('sizes and rates read well at every scale', () => {
  const shown = [0, 512, 1023.96, 4096, 1.5 * 2 ** 30, 2 ** 50].map(formatSize);
  expect(shown).toEqual(['0 B', '512 B', '1 KiB', '4 KiB', '1.5 GiB', '1024 TiB']);
  expect(formatRate(50 * 2 ** 20)).toBe('50 MiB/s');
});
