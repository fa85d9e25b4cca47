import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { BurstMeter } from '../../lib/pages/burst-meter.ts';
import { COUNTERS_SIZE, Counters } from '../../lib/pages/counters.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const MIB = 2 ** 20;

test('a batch that has its lane to itself, without the wait for the cap', () => {
  const counters = new Counters(new SharedArrayBuffer(COUNTERS_SIZE));
  const meter = new BurstMeter(counters);
  const seen = () => [counters.get('burstBytes'), counters.get('burstMs')];
  const batch = (outstanding: number, sequence: number, bytes: number) => {
    meter.begin(outstanding);
    vi.advanceTimersByTime(3); // read and compressed
    vi.advanceTimersByTime(500); // the cap
    meter.waited(500);
    meter.sent(sequence, bytes);
    vi.advanceTimersByTime(7);
  };
  batch(0, 0, MIB);
  expect(seen()).toEqual([0, 0]);
  meter.acknowledged(0);
  expect(seen()).toEqual([MIB, 10]);
  meter.acknowledged(0);
  batch(1, 1, MIB); // another one was under way
  meter.acknowledged(1);
  batch(0, 2, 100_000); // its time is that of the answer
  meter.acknowledged(2);
  batch(0, 3, MIB);
  meter.acknowledged(2); // of one before it
  expect(seen()).toEqual([MIB, 10]);
  meter.acknowledged(4); // of it and one that came after
  expect(seen()).toEqual([2 * MIB, 20]);
});
