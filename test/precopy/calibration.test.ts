import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Experience,
  type Lessons,
  lessonsFor,
  lineThrough,
  quantile,
  type Subject,
} from '../../lib/precopy/calibration.ts';
import { estimateSuspension } from '../../lib/precopy/estimate.ts';
import { randomOf } from '../random.ts';

const SUBJECT: Subject = {
  ...{ guest: 'vm1', hypervisor: 'simulated', deviceModel: 'm1', peer: 'hostb:7070' },
  totalPages: 65_536,
  deviceStateBytes: undefined,
};

/** A suspension that took what its parts say, and 10 ms after the guest was given away. */
function lived(over: Partial<Experience> = {}): Experience {
  const parts = {
    suspend: 4,
    sync: 1,
    pages: 20,
    deviceState: 5,
    digest: 1,
    prepare: 9,
    commit: 8,
  };
  return {
    ...SUBJECT,
    time: '2026-01-02T03:04:05.000Z',
    forecast: { low: 40, expected: 50, high: 60 },
    pages: 20,
    sendMs: 20,
    deviceStateBytes: 1 << 20,
    verified: false,
    parts,
    ms: 50,
    moved: true,
    ...over,
  };
}

/** Of a suspension without a page. */
function fixedMs({ learned }: Lessons): number {
  const { stopMs, saveMs, tailMs, prepareMs, afterMs } = learned!;
  return stopMs + Math.max(saveMs, tailMs) + prepareMs + afterMs;
}

const times = (count: number, one: Experience) => Array.from({ length: count }, () => one);

const NO_COSTS = {
  ...{ suspendMs: 0, digestMs: 0, roundTripMs: 0, deviceStateBytes: 0, journalMs: 0, loadMs: 0 },
  ...{ verifyMs: 0, resumeMs: 0, afterMs: 0, reserveMs: 0, leastMs: 0 },
};

describe('what is learned', () => {
  test('nothing from nothing, and nothing from two', () => {
    for (const count of [0, 2]) {
      const { learned, send, afterClaimMs } = lessonsFor(SUBJECT, times(count, lived()));
      expect({ learned, send, afterClaimMs }).toEqual({
        learned: undefined,
        send: { offsetMs: 0, perPageMs: 0 },
        afterClaimMs: undefined,
      });
    }
  });

  test('the fixed part is what was left beside the pages', () => {
    const lessons = lessonsFor(SUBJECT, times(5, lived()));
    const { afterClaimMs, deviceStateBytes } = lessons;
    expect(fixedMs(lessons)).toBeCloseTo(30);
    expect(afterClaimMs).toBeCloseTo(10);
    expect(deviceStateBytes).toBe(1 << 20);
  });

  test('device state of another size costs as sizes have cost', () => {
    const costing = (mib: number) =>
      lived({
        deviceStateBytes: mib << 20,
        ms: 30 + 10 * mib,
        parts: { pages: 10, prepare: 10 * mib },
      });
    const seen = [1, 2, 8, 1, 8, 4].map(costing);
    const lessons = lessonsFor({ ...SUBJECT, deviceStateBytes: 16 << 20 }, seen);
    expect(fixedMs(lessons)).toBeCloseTo(20 + 160);
  });

  test("the guest's own suspensions count before those of others", () => {
    const own = times(3, lived({ ms: 120 }));
    const others = times(20, lived({ guest: 'vm2', ms: 40 }));
    expect(fixedMs(lessonsFor(SUBJECT, [...own, ...others]))).toBeCloseTo(100);
    expect(fixedMs(lessonsFor({ ...SUBJECT, guest: 'vm3' }, others))).toBeCloseTo(20);
    expect(lessonsFor({ ...SUBJECT, hypervisor: 'qemu' }, others).learned).toBeUndefined();
  });

  test('a roll back teaches the size of the device state and what a recall takes', () => {
    const back = lived({ moved: false, parts: { suspend: 4 }, ms: 300, recallMs: 12 });
    const { deviceStateBytes, recallMs, learned } = lessonsFor(SUBJECT, times(3, back));
    expect({ deviceStateBytes, recallMs, learned }).toEqual({
      deviceStateBytes: 1 << 20,
      recallMs: 12,
      learned: undefined,
    });
  });

  test('a roll back tells what the first move takes at least, until the guest has moved there', () => {
    const back = (ms: number, pages?: number) =>
      lived({ moved: false, ms, recallMs: 12, parts: { suspend: 4, ...(pages && { pages }) } });
    expect(lessonsFor(SUBJECT, [back(300, 20), back(200, 20), back(5000)]).leastMs).toBe(268);
    expect(lessonsFor({ ...SUBJECT, guest: 'vm2' }, [back(300, 20)]).leastMs).toBe(0);
    expect(lessonsFor(SUBJECT, [back(300, 20), lived(), back(900, 20)]).leastMs).toBe(0);
  });

  test('device state is saved while pages travel: the longer one of the two counts', () => {
    const saving = lived({ parts: { pages: 5, deviceState: 45, prepare: 10 }, ms: 70 });
    const sending = lived({ parts: { pages: 80, deviceState: 2, prepare: 10 }, ms: 102 });
    const { learned, send } = lessonsFor(SUBJECT, [...times(4, saving), ...times(4, sending)]);
    expect(learned).toEqual({ stopMs: 0, saveMs: 50, tailMs: 2, prepareMs: 10, afterMs: 10 });
    const band = { low: 1, high: 1 };
    const plain = { ...send, offsetMs: 0, perPageMs: 0 };
    const costs = { ...NO_COSTS, learned: { ...learned!, send: plain, band } };
    const drain = { rate: 4096e3, spread: 0.1 }; // a page a millisecond
    const forecast = (pages: number) => estimateSuspension(pages, 0, drain, costs).expected;
    expect([0, 20, 48, 80].map(forecast)).toEqual([70, 70, 70, 102]);
  });

  test('re-reading memory is not taken for a part that every suspension has', () => {
    const verified = times(5, lived({ ms: 900, verified: true }));
    expect(lessonsFor(SUBJECT, verified).learned).toBeUndefined();
    expect(fixedMs(lessonsFor(SUBJECT, [...verified, ...times(3, lived())]))).toBeCloseTo(30);
  });

  test('one that went wild changes next to nothing', () => {
    const calm = times(9, lived());
    expect(fixedMs(lessonsFor(SUBJECT, [...calm, lived({ ms: 5000 })]))).toBeCloseTo(30);
  });
});

test('nine of ten are inside the band, whatever the noise, once twenty were seen', () => {
  fc.assert(
    fc.property(fc.integer(), fc.constantFrom(0.05, 0.2, 0.4), (seed, noise) => {
      const random = randomOf(seed);
      const factor = () => Math.exp(noise * (random() + random() + random() - 1.5) * 2);
      const all: Experience[] = [];
      let inside = 0;
      const drain = { rate: 4096e3, spread: 0.1 }; // a page a millisecond
      for (let i = 0; i < 220; i++) {
        const { deviceStateBytes = 0, learned, send, band } = lessonsFor(SUBJECT, all);
        const pages = Math.round(10 + random() * 90);
        const rest = { suspendMs: 4, digestMs: 1, roundTripMs: 1, journalMs: 1, loadMs: 4 };
        const costs = {
          ...rest,
          deviceStateBytes,
          verifyMs: 0,
          resumeMs: 4,
          afterMs: 8,
          reserveMs: 30,
          leastMs: 0,
          ...(learned && { learned: { ...learned, send, band } }),
        };
        const forecast = estimateSuspension(pages, 0, drain, costs);
        const [sent, fixed] = [pages * factor(), 30 * factor()];
        const ms = sent + fixed;
        if (i >= 20 && forecast.low <= ms && ms <= forecast.high) inside++;
        all.push(lived({ forecast, pages, sendMs: pages, ms, parts: { pages: sent } }));
      }
      expect(inside).toBeGreaterThanOrEqual(165); // 180 expected of 200
    }),
    { numRuns: 12, seed: 11 },
  );
});

test('a line goes through most points', () => {
  const points = Array.from({ length: 11 }, (_, x) => ({ x, y: 7 + 3 * x }));
  const { at0, slope } = lineThrough([...points, { x: 5, y: 1000 }], 1);
  expect(slope).toBeCloseTo(3, 0);
  expect(at0).toBeCloseTo(7, 0);
  expect(lineThrough([{ x: 4, y: 10 }], 2)).toEqual({ at0: 2, slope: 2 });
});

test('a quantile is one of the values', () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2);
  expect(quantile([3, 1, 2], 1)).toBe(3);
  expect(quantile([], 0.5)).toBeNaN();
});
