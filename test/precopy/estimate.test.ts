import { describe, expect, test } from 'vitest';
import { DrainMeter } from '../../lib/precopy/drain-meter.ts';
import { estimateSuspension, fixedCostMs } from '../../lib/precopy/estimate.ts';

const COSTS = {
  suspendMs: 2,
  journalMs: 0,
  digestMs: 3,
  roundTripMs: 5,
  deviceStateBytes: 1_000_000,
  loadMs: 4,
  verifyMs: 100,
  resumeMs: 13,
  afterMs: 14,
  reserveMs: 30,
  leastMs: 0,
};
const FREE = {
  suspendMs: 0,
  digestMs: 0,
  journalMs: 0,
  roundTripMs: 0,
  deviceStateBytes: 0,
  loadMs: 0,
  verifyMs: 0,
  resumeMs: 0,
  afterMs: 0,
  reserveMs: 0,
  leastMs: 0,
};

describe('the forecast', () => {
  test('the fixed part is the sum of what follows the pages', () => {
    // 2 + 3 + 3 × 5 + 1 MB at 100 MB/s + 4 + 100 + 13
    expect(fixedCostMs(COSTS, 100e6)).toBeCloseTo(147);
  });

  test('QEMU: 31.25 MB at 500 Mbit/s are 500 ms (VEP 248)', () => {
    const drain = { rate: 62.5e6, spread: 0 };
    const { low, expected, high, fixed } = estimateSuspension(31.25e6 / 4096, 0, drain, FREE);
    expect([low, expected, high, fixed]).toEqual([500, 500, 500, 0]);
  });

  test('spread and fixed costs make the band', () => {
    const drain = { rate: 409.6e6, spread: 0.2 }; // 100 pages a millisecond
    const { low, expected, high, fixed } = estimateSuspension(12_000, 10_000, drain, COSTS);
    expect(fixed).toBeCloseTo(139.44, 2);
    // while the vCPUs stop, 20 more pages become dirty, or twice as many
    expect(expected).toBeCloseTo(120.2 + fixed);
    expect(low).toBeCloseTo(100 + fixed / 2);
    expect(high).toBeCloseTo(150.5 + fixed * 1.5);
  });
});

describe('the drain meter', () => {
  const at = (atMs: number, drainedBytes: number, pagesWritten = drainedBytes / 4096) => ({
    atMs,
    drainedBytes,
    pagesWritten,
  });

  test('a steady stream is measured exactly, and grows more certain', () => {
    const meter = new DrainMeter();
    expect(meter.drain.rate).toBe(0);
    meter.begin(at(0, 0));
    for (let i = 1; i <= 20; i++) meter.sample(at(i * 200, i * 20e6));
    expect(meter.drain).toEqual({ rate: 100e6, spread: 0.05 });
  });

  test('a lasting change is followed within a few samples, and widens the spread', () => {
    const meter = new DrainMeter();
    meter.begin(at(0, 0));
    for (let i = 1; i <= 10; i++) meter.sample(at(i * 200, i * 20e6));
    for (let i = 1; i <= 4; i++) meter.sample(at(2000 + i * 200, 200e6 + i * 10e6));
    expect(meter.drain.rate).toBeGreaterThan(50e6);
    expect(meter.drain.rate).toBeLessThan(60e6);
    expect(meter.drain.spread).toBeGreaterThan(0.2);
  });

  test('the time between passes does not count', () => {
    const meter = new DrainMeter();
    for (const start of [0, 10_000, 20_000]) {
      const before = start / 1000; // MB so far
      meter.begin(at(start, before * 1e6));
      meter.end(at(start + 100, before * 1e6 + 10e6));
    }
    expect(meter.drain.rate).toBeCloseTo(100e6);
  });

  test('a short burst after good samples changes nothing', () => {
    const meter = new DrainMeter();
    meter.begin(at(0, 0));
    meter.end(at(1000, 100e6));
    const before = meter.drain;
    meter.begin(at(1000, 100e6));
    meter.end(at(1005, 100e6 + 4096));
    expect(meter.drain).toEqual(before);
  });

  test('a short burst is used while there is nothing better, with the widest spread', () => {
    const meter = new DrainMeter();
    meter.begin(at(0, 0));
    meter.end(at(5, 65_536));
    expect(meter.drain.rate).toBeCloseTo(13.1e6, -5);
    expect(meter.drain.spread).toBe(0.5);
    meter.begin(at(5, 65_536));
    meter.end(at(1005, 100e6 + 65_536));
    expect(meter.drain.rate).toBeCloseTo(100e6, -6);
    expect(meter.drain.spread).toBeLessThan(0.5);
  });

  test('time spent on zero pages is not held against the link', () => {
    const meter = new DrainMeter();
    meter.begin(at(0, 0, 0));
    meter.sample(at(1000, 100_000, 1_000_000)); // 4 GB of zero pages
    meter.sample(at(1200, 20.1e6, 1_004_883));
    expect(meter.drain.rate).toBeCloseTo(100e6);
  });

  test('a guest of nothing but zero pages gets a cautious guess', () => {
    const meter = new DrainMeter();
    meter.begin(at(0, 0, 0));
    meter.end(at(300, 0, 131_072));
    expect(meter.drain).toEqual({ rate: 12.5e6, spread: 0.5 });
  });
});
