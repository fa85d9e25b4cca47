import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  MAX_DEVICE_STATE,
  STATE_PART,
  StateProgress,
  shareOf,
} from '../../lib/memory/state-progress.ts';

const invalid = expect.objectContaining({ code: 'device-state-invalid' });

test('what is available has no gap, in whatever order the writers come', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 0, max: 12 * STATE_PART }),
      fc.array(fc.nat(), { minLength: 1 }),
      (writers, total, turns) => {
        const progress = StateProgress.of(writers);
        const parts = Math.ceil(total / STATE_PART);
        const there = new Set<number>();
        const next = Array.from({ length: writers }, (_, writer) => writer);
        progress.endAt(total);
        for (let turn = 0; there.size < parts; turn++) {
          expect(progress.complete).toBe(false);
          const open = next.filter((part) => part < parts);
          const part = open[turns[turn % turns.length]! % open.length]!;
          const writer = part % writers;
          next[writer]! += writers;
          there.add(part);
          const length = Math.min(STATE_PART, total - part * STATE_PART);
          progress.wrote(writer, progress.bytesOf(writer) + length, BigInt(part));
          expect(progress.digestOf(writer)).toBe(BigInt(part));
          let whole = 0;
          while (there.has(whole)) whole++;
          expect(progress.available).toBe(Math.min(total, whole * STATE_PART));
        }
        expect(progress.complete).toBe(true);
        expect(progress.available).toBe(total);
        for (let writer = 0; writer < writers; writer++)
          expect(progress.bytesOf(writer)).toBe(shareOf(total, writer, writers));
      },
    ),
  );
});

test('one writer may write any number of bytes at a time', () => {
  const progress = StateProgress.of(1);
  for (const bytes of [1, 5, STATE_PART - 1, STATE_PART, 3 * STATE_PART + 7]) {
    progress.wrote(0, bytes);
    expect(progress.available).toBe(bytes);
  }
});

test('more than it has, or than a guest may have, is refused; its end is told once', () => {
  const progress = StateProgress.of(2);
  expect(() => progress.wrote(0, MAX_DEVICE_STATE + 1)).toThrow(invalid);
  expect(() => progress.endAt(MAX_DEVICE_STATE + 1)).toThrow(invalid);
  progress.wrote(0, 10);
  expect(() => progress.endAt(9)).toThrow(invalid);
  const other = StateProgress.of(2);
  other.endAt(STATE_PART);
  expect(() => other.endAt(STATE_PART)).toThrow(invalid);
  other.wrote(0, STATE_PART);
  expect(() => other.wrote(1, 1)).toThrow(invalid);
});

test('whoever waits hears of more, of the end and of being given up, over threads', async () => {
  const progress = StateProgress.of(1);
  const elsewhere = new StateProgress(progress.shared);
  const more = elsewhere.more(0);
  progress.wrote(0, 5);
  await more;
  const whole = elsewhere.whole();
  progress.endAt(5);
  await whole;
  await elsewhere.more(5);
  const other = StateProgress.of(1);
  const vain = new StateProgress(other.shared).more(0);
  other.giveUp();
  await expect(vain).rejects.toMatchObject({ code: 'cancelled' });
  other.endAt(0);
  await expect(other.more(0)).rejects.toMatchObject({ code: 'cancelled' });
});
