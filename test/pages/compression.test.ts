import { expect, test } from 'vitest';
import { CompressionChoice, type Level } from '../../lib/pages/compression.ts';

const MIB = 1 << 20;
const SPEED: Record<Level, number> = { 0: Number.POSITIVE_INFINITY, 1: 300e6, 3: 180e6, 6: 60e6 };
const RATIO: Record<Level, number> = { 0: 1, 1: 2.1, 3: 2.3, 6: 2.5 };

/** A lane that is rid of `rate` bytes/s, for its link or its receiver, and a worker as fast as the priors say. */
function run(
  choice: CompressionChoice,
  rate: number,
  seconds: number,
  busiest = 0,
): Record<Level, number> {
  const used: Record<Level, number> = { 0: 0, 1: 0, 3: 0, 6: 0 };
  for (let t = 0; t < seconds; t += 0.1) {
    let cpu = 0;
    let compress = 0;
    let wire = 0;
    let guest = 0;
    // Batches until a tenth of a second is full of work or of waiting for the link.
    while (Math.max(cpu, wire / rate) < 0.1) {
      const level = choice.next();
      used[level]++;
      const packed = MIB / RATIO[level];
      choice.batch(level, MIB, packed, MIB / SPEED[level]);
      compress += MIB / SPEED[level];
      cpu += MIB / SPEED[level] + MIB / 2e9;
      wire += packed;
      guest += MIB;
    }
    const taken = Math.max(cpu, wire / rate);
    choice.interval({
      seconds: taken,
      blockedSeconds: taken - cpu,
      compressSeconds: compress,
      wireBytes: wire,
      guestBytes: guest,
      busiest,
    });
  }
  return used;
}

const share = (used: Record<Level, number>, level: Level) =>
  used[level] / (used[0] + used[1] + used[3] + used[6]);

test('a link faster than the compressor gets no compression', () => {
  expect(share(run(new CompressionChoice(), 1e9, 5), 0)).toBeGreaterThan(0.95);
});

test('a link of 1 Gbit/s shared by two lanes gets a low level', () => {
  const used = run(new CompressionChoice(), 60e6, 10);
  expect(share(used, 0)).toBeLessThan(0.1);
  expect(share(used, 1) + share(used, 3)).toBeGreaterThan(0.85);
});

test('a slow link gets a higher level', () => {
  const used = run(new CompressionChoice(), 5e6, 20);
  expect(share(used, 0)).toBeLessThan(0.1);
  expect(share(used, 6) + share(used, 3)).toBeGreaterThan(0.5);
});

test('it follows a link that changes its speed', () => {
  const choice = new CompressionChoice();
  run(choice, 60e6, 10);
  run(choice, 2e9, 60); // time to notice that there is more to be had
  expect(share(run(choice, 2e9, 10), 0)).toBeGreaterThan(0.8);
  run(choice, 60e6, 5);
  expect(share(run(choice, 60e6, 10), 0)).toBeLessThan(0.1);
});

test('it knows whether the link is the limit', () => {
  const choice = new CompressionChoice();
  expect(choice.linkIsLimit).toBe(false);
  run(choice, 5e6, 1);
  expect(choice.linkIsLimit).toBe(true);
  run(choice, 1e9, 1);
  expect(choice.linkIsLimit).toBe(false);
});

test('a slow receiver is not taken for a slow link', () => {
  const choice = new CompressionChoice();
  expect(share(run(choice, 60e6, 10, 0.98), 0)).toBe(1);
  expect(choice.linkIsLimit).toBe(false);
  // The same pace, and it has time: that is the link.
  expect(share(run(choice, 60e6, 10, 0.3), 0)).toBeLessThan(0.1);
  expect(choice.linkIsLimit).toBe(true);
});

test('intervals without time or bytes change nothing', () => {
  const choice = new CompressionChoice();
  const before = choice.pace(1);
  const nothing = { blockedSeconds: 0, compressSeconds: 0, wireBytes: 0, busiest: 0 };
  choice.interval({ ...nothing, seconds: 0, guestBytes: 5 });
  choice.interval({ ...nothing, seconds: 1, guestBytes: 0 });
  expect(choice.pace(1)).toBe(before);
});
