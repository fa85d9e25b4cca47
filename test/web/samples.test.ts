import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_SAMPLES, type Sample, Samples, sampleOf } from '../../lib/web/samples.ts';
import { aView, LIMITS } from '../api/fake-backend.ts';

function sampleAt(at: number, over: Partial<Sample> = {}): Sample {
  return { ...sampleOf(aView({ elapsedMs: at })), ...over };
}

const HOURS_2 = 2 * 3_600_000;

test('two hours, and two days, take the room of some minutes', () => {
  const samples = new Samples();
  for (let at = 0; at <= 24 * HOURS_2; at += 500) {
    samples.add(sampleAt(at));
    if (samples.all.length > MAX_SAMPLES) expect.fail(`${samples.all.length} at ${at} ms`);
    if (at === HOURS_2) expect(samples.all.length).toBeGreaterThan(MAX_SAMPLES / 2 - 1);
  }
  expect(samples.all.length).toBeGreaterThan(MAX_SAMPLES / 2 - 1);
  expect(samples.all.at(-1)!.at).toBe(24 * HOURS_2);
  expect(samples.all[0]!.at).toBeLessThan((24 * HOURS_2) / (MAX_SAMPLES / 2));
});

test('whatever comes when: bounded, in order, the newest as it is, no forecast outside the band', () => {
  const moments = fc.array(fc.integer({ min: 0, max: 60_000 }), { minLength: 1, maxLength: 3000 });
  fc.assert(
    fc.property(moments, (steps) => {
      const samples = new Samples();
      let at = 0;
      let [low, high] = [Number.POSITIVE_INFINITY, 0];
      for (const step of steps) {
        at += step;
        low = Math.min(low, step);
        high = Math.max(high, step + 5);
        samples.add(sampleAt(at, { low: step, expected: step + 1, high: step + 5 }));
      }
      const { all } = samples;
      expect(all.length).toBeLessThanOrEqual(MAX_SAMPLES);
      expect(all.map((sample) => sample.at)).toEqual(
        all.map((sample) => sample.at).toSorted((a, b) => a - b),
      );
      expect(all.at(-1)!.at).toBe(at);
      expect(Math.min(...all.map((sample) => sample.low!))).toBe(low);
      expect(Math.max(...all.map((sample) => sample.high!))).toBe(high);
    }),
    { numRuns: 30 },
  );
});

test('those of another go on in the same room, and a clock that went back begins anew', () => {
  const first = new Samples();
  for (let at = 0; at < HOURS_2; at += 500) first.add(sampleAt(at));
  const second = Samples.of(first.all);
  expect(second.all.length).toBeGreaterThan(MAX_SAMPLES / 2 - 1);
  for (let at = HOURS_2; at < 2 * HOURS_2; at += 500) second.add(sampleAt(at));
  expect(second.all.length).toBeLessThanOrEqual(MAX_SAMPLES);
  second.add(sampleAt(10));
  expect(second.all.map(({ at }) => at)).toEqual([10]);
});

test('a sample is what the view knows, and nothing else', () => {
  const limits = { ...LIMITS, prefer: 'completion', abortAboveMs: 900 } as const;
  expect(sampleOf(aView({ limits }))).toMatchObject({
    left: 2500 * 4096,
    dirty: 4800 * 4096,
    limit: 900,
  });
  const unknown = { round: 0, dirtyRate: -1, estimate: undefined, limits: undefined };
  expect(sampleOf(aView(unknown))).toMatchObject({
    ...{ left: null, dirty: null, low: null, expected: null, high: null, limit: null },
  });
  const hold = { until: 'x', ready: true, ms: 1, wirePerMinute: undefined };
  expect(sampleOf(aView({ hold })).left).toBe(5120 * 4096);
  expect(sampleOf(aView({ hold, dirtyPages: -1 })).left).toBeNull();
});
