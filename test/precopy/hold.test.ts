import { describe, expect, test } from 'vitest';
import { holdAt, holdInWords, isHold, localTime, nextTimeOfDay } from '../../lib/precopy/hold.ts';
import { UNKNOWN } from '../../lib/precopy/stats.ts';

const HOUR = 3_600_000;
/** By the clock of this host, whatever its zone. */
const at = (hour: number, minute = 0, day = 12) => new Date(2026, 2, day, hour, minute).getTime();

describe('what a hold may be', () => {
  test.each([
    ...[
      'cutover',
      '2026-11-30T02:00Z',
      '2026-11-30T02:00:30.5+01:00',
      '02:00-04:00',
      '22:00-04:00',
    ],
  ])('%s', (text) => expect(isHold(text)).toBe(true));

  test.each([
    ...['', 'hold', '02:00', '2:00-4:00', '02:00-24:00', '02:00-02:00', '2026-11-30T02:00'],
    ...['2026-13-30T02:00Z', '2026-11-30', 7, null, {}],
  ])('not %s', (text) => expect(isHold(text)).toBe(false));
});

describe('how a hold stands', () => {
  test('until a cutover: never opens by itself', () => {
    expect(holdAt('cutover', at(3))).toEqual({ opensMs: UNKNOWN, closesMs: UNKNOWN });
  });

  test('until a time: open from then on', () => {
    const hold = new Date(at(2)).toISOString();
    expect(holdAt(hold, at(1))).toEqual({ opensMs: HOUR, closesMs: UNKNOWN });
    expect(holdAt(hold, at(2))).toEqual({ opensMs: 0, closesMs: UNKNOWN });
    expect(holdAt(hold, at(9))).toEqual({ opensMs: 0, closesMs: UNKNOWN });
  });

  test.each([
    ['before it', '02:00-04:00', at(1), { opensMs: HOUR, closesMs: UNKNOWN }],
    ['at its beginning', '02:00-04:00', at(2), { opensMs: 0, closesMs: 2 * HOUR }],
    ['within', '02:00-04:00', at(3, 30), { opensMs: 0, closesMs: HOUR / 2 }],
    ['at its end: the next one', '02:00-04:00', at(4), { opensMs: 22 * HOUR, closesMs: UNKNOWN }],
    ['over midnight, before', '22:00-04:00', at(21), { opensMs: HOUR, closesMs: UNKNOWN }],
    ['over midnight, in the evening', '22:00-04:00', at(23), { opensMs: 0, closesMs: 5 * HOUR }],
    ['over midnight, in the morning', '22:00-04:00', at(3), { opensMs: 0, closesMs: HOUR }],
  ])('a window, %s', (_, hold, now, stands) => expect(holdAt(hold, now)).toEqual(stands));
});

test('the next time of day is today or tomorrow, never now', () => {
  expect(nextTimeOfDay('02:00', at(1, 59))).toBe(at(2));
  expect(nextTimeOfDay('02:00', at(2))).toBe(at(2, 0, 13));
  for (const text of ['2:00', '24:00', '02:60', '', '02:00-04:00'])
    expect(nextTimeOfDay(text, at(1))).toBeUndefined();
});

test('in words', () => {
  expect(localTime(at(2, 5))).toBe('2026-03-12 02:05');
  expect(holdInWords('cutover')).toBe('until a cutover is ordered');
  expect(holdInWords(new Date(at(2)).toISOString())).toBe('until 2026-03-12 02:00');
  expect(holdInWords('02:00-04:00')).toBe('outside of 02:00-04:00');
});
