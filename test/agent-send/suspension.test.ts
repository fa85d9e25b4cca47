import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { reserveMs, Suspension } from '../../agent-send/suspension.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('what is kept for after commit: 30 ms and two round trips, at most a third of the limit', () => {
  expect(reserveMs(300, 1)).toBe(32);
  expect(reserveMs(300, 60)).toBe(100);
  expect(reserveMs(30, 1)).toBe(10);
});

test('the deadline comes so early that the rest fits', () => {
  const onDeadline = vi.fn();
  const suspension = new Suspension(300, 1, onDeadline);
  vi.advanceTimersByTime(267);
  expect(onDeadline).not.toHaveBeenCalled();
  expect(suspension.late).toBe(false);
  vi.advanceTimersByTime(2);
  expect(onDeadline).toHaveBeenCalledOnce();
  expect(suspension.late).toBe(true);
});

test('no limit, no deadline; a disarmed one does nothing', () => {
  const onDeadline = vi.fn();
  expect(new Suspension(undefined, 1, onDeadline).late).toBe(false);
  new Suspension(100, 1, onDeadline).disarm();
  vi.advanceTimersByTime(100_000);
  expect(onDeadline).not.toHaveBeenCalled();
});

test('parts follow each other, and the end is the end', () => {
  const suspension = new Suspension(300, 1, () => {});
  vi.advanceTimersByTime(5);
  suspension.mark('suspend');
  vi.advanceTimersByTime(7);
  suspension.mark('sync');
  suspension.end();
  vi.advanceTimersByTime(100);
  suspension.end();
  expect(suspension.parts).toEqual({ suspend: 5, sync: 7 });
  expect(suspension.ms).toBe(12);
});

test('a missed limit says by how much, and what would have been enough', () => {
  const suspension = new Suspension(300, 1, () => {});
  vi.advanceTimersByTime(268);
  const { code, message } = suspension.missed('the last pages were sent', 500);
  expect(code).toBe('suspension-limit');
  // 268 ms gone, 500 to go, 32 for what follows commit.
  expect(message).toContain('missed by about 500 ms');
  expect(message).toContain('--max-suspend-time 800ms would have been enough');
});
