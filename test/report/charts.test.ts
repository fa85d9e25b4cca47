import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { spread } from '../../lib/report/chart/frame.ts';
import { el } from '../../lib/report/chart/markup.ts';
import {
  linearScale,
  position,
  type Quantity,
  tickText,
  valueScale,
} from '../../lib/report/chart/scale.ts';
import { rates } from '../../lib/report/figures/sent.ts';

const QUANTITIES: Quantity[] = ['count', 'duration', 'size', 'rate', 'share'];
const quantity = fc.constantFrom(...QUANTITIES);
const value = fc.double({ min: 0, max: 1e15, noNaN: true });

describe('scales', () => {
  test('tick at round values of their unit', () => {
    expect(valueScale('duration', [280], 4).ticks).toEqual([0, 100, 200, 300]);
    expect(valueScale('count', [1, 7], 4).ticks).toEqual([0, 2, 4, 6, 8]);
    expect(valueScale('size', [1.4 * 2 ** 30], 4).ticks).toEqual(
      [0, 0.5, 1, 1.5].map((g) => g * 2 ** 30),
    );
    expect(linearScale('duration', 0, 150_000, 5).ticks).toEqual(
      [0, 30, 60, 90, 120, 150].map((s) => s * 1000),
    );
  });

  test('are logarithmic where a linear axis would flatten the small values', () => {
    expect(valueScale('count', [50, 262_144], 4)).toMatchObject({
      log: true,
      ticks: [100, 1000, 10_000, 100_000],
    });
    expect(valueScale('count', [50, 262_144], 4, 'linear').log).toBe(false);
    expect(valueScale('count', [100, 4000], 4).log).toBe(false);
  });

  test('write ticks in human units', () => {
    const texts = (kind: Quantity, values: number[]) => values.map((one) => tickText(kind, one));
    expect(texts('duration', [0, 5, 300, 1500, 60_000, 90_000, 7_200_000])).toEqual([
      '0',
      '5 ms',
      '300 ms',
      '1.5 s',
      '1 m',
      '1 m 30',
      '2 h',
    ]);
    expect(texts('count', [0, 500, 20_000, 1_500_000])).toEqual(['0', '500', '20 k', '1.5 M']);
    expect(texts('rate', [2 ** 20 * 512, 2 ** 30])).toEqual(['512 MiB/s', '1 GiB/s']);
    expect(texts('share', [0, 0.5, 1])).toEqual(['0 %', '50 %', '100 %']);
  });

  test('rise with the value, stay in 0..1 and tick inside, whatever the values', () => {
    fc.assert(
      fc.property(
        quantity,
        fc.array(value, { maxLength: 30 }),
        fc.integer({ min: 2, max: 12 }),
        (kind, values, ticks) => {
          const scale = valueScale(kind, values, ticks);
          const at = [...values].sort((a, b) => a - b).map((one) => position(scale, one));
          for (const [i, place] of at.entries()) {
            expect(place).toBeGreaterThanOrEqual(i === 0 ? 0 : at[i - 1]!);
            expect(place).toBeLessThanOrEqual(1);
          }
          expect(scale.ticks.length).toBeLessThanOrEqual(2 * ticks + 3);
          for (const tick of scale.ticks) {
            expect(tick).toBeGreaterThanOrEqual(scale.min * (1 - 1e-9));
            expect(tick).toBeLessThanOrEqual(scale.max * (1 + 1e-9));
            expect(tickText(kind, tick)).not.toMatch(/NaN|Infinity|undefined/);
          }
        },
      ),
    );
  });

  test('show every value: the domain reaches from the lowest to the highest', () => {
    fc.assert(
      fc.property(quantity, fc.array(value, { minLength: 1, maxLength: 9 }), (kind, values) => {
        const { max } = valueScale(kind, values, 4);
        expect(max * (1 + 1e-9)).toBeGreaterThanOrEqual(Math.max(...values));
      }),
    );
  });
});

describe('labels', () => {
  test('never cover each other and stay where there is room', () => {
    const wished = fc.array(fc.double({ min: 0, max: 300, noNaN: true }), { maxLength: 12 });
    fc.assert(
      fc.property(wished, (heights) => {
        const placed = spread(
          heights.sort((a, b) => a - b),
          { from: 10, to: 290, gap: 15 },
        );
        for (let i = 1; i < placed.length; i++)
          expect(placed[i]! - placed[i - 1]!).toBeGreaterThanOrEqual(15 - 1e-9);
        expect(placed.at(-1) ?? 0).toBeLessThanOrEqual(290);
      }),
    );
  });

  test('stay where they are when nothing is in their way', () => {
    expect(spread([20, 100, 200], { from: 10, to: 290, gap: 15 })).toEqual([20, 100, 200]);
  });
});

describe('rates', () => {
  test('of a steady stream are steady', () => {
    const steady = rates([
      [0, 0],
      [1000, 500],
      [2000, 1000],
    ]);
    for (const [, rate] of steady) expect(rate).toBeCloseTo(500);
  });

  test('add up to the bytes', () => {
    const points = fc.array(
      fc.tuple(fc.integer({ min: 1, max: 900 }), fc.integer({ min: 0, max: 1e9 })),
      {
        minLength: 1,
        maxLength: 40,
      },
    );
    fc.assert(
      fc.property(points, (steps) => {
        const curve: [number, number][] = [[0, 0]];
        for (const [ms, bytes] of steps) {
          const [at, sum] = curve.at(-1)!;
          curve.push([at + ms, sum + bytes]);
        }
        const bins = rates(curve);
        let total = 0;
        for (let i = 1; i < bins.length; i++)
          total += (bins[i - 1]![1] * (bins[i]![0] - bins[i - 1]![0])) / 1000;
        const sent = curve.at(-1)![1];
        expect(Math.abs(total - sent)).toBeLessThanOrEqual(1e-6 * sent + 1e-6);
      }),
    );
  });
});

describe('markup', () => {
  test('escapes text and attributes, and keeps elements', () => {
    const made = el('p', { title: `"'<&` }, '<script>', el('b', {}, 'a & b'));
    expect(made.text).toBe('<p title="&quot;&#39;&lt;&amp;">&lt;script&gt;<b>a &amp; b</b></p>');
  });

  test('takes control and bidirectional characters out', () => {
    expect(el('p', {}, 'a\0b\u202ec').text).toBe('<p>a\u{fffd}b\u{fffd}c</p>');
  });
});
