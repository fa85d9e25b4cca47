import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Suspension } from '../../lib/precopy/suspension.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const LIMITED = { limitMs: 300, reserveMs: 32, agoMs: 0 };

test('the deadline comes so early that the rest fits', () => {
  const onDeadline = vi.fn();
  const suspension = new Suspension(LIMITED, onDeadline);
  vi.advanceTimersByTime(267);
  expect(onDeadline).not.toHaveBeenCalled();
  expect(suspension.late).toBe(false);
  vi.advanceTimersByTime(2);
  expect(onDeadline).toHaveBeenCalledOnce();
  expect(suspension.late).toBe(true);
});

test('no limit, no deadline; a disarmed one does nothing', () => {
  const onDeadline = vi.fn();
  expect(new Suspension({ ...LIMITED, limitMs: undefined }, onDeadline).late).toBe(false);
  new Suspension(LIMITED, onDeadline).disarm();
  vi.advanceTimersByTime(100_000);
  expect(onDeadline).not.toHaveBeenCalled();
});

test('parts follow each other, and the end is the end', () => {
  const suspension = new Suspension(LIMITED, () => {});
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
  const suspension = new Suspension(LIMITED, () => {});
  const { code, message, enoughMs } = suspension.missed('the last pages were sent', 768, {
    after: 8,
    reserve: 32,
  });
  expect(code).toBe('suspension-limit');
  // A tenth on top, and what the reserve is longer than what follows the deadline.
  expect(message).toContain('missed by about 468 ms');
  expect(message).toContain('--max-suspend-time 869ms would have been enough');
  expect(enoughMs).toBe(869);
});

test('a guest that stopped a while ago has its deadline sooner', () => {
  const onDeadline = vi.fn();
  const suspension = new Suspension({ ...LIMITED, agoMs: 200 }, onDeadline);
  expect(suspension.leftMs).toBe(68);
  vi.advanceTimersByTime(69);
  expect(onDeadline).toHaveBeenCalledOnce();
  suspension.end(275); // when it was recalled by somebody else
  expect(suspension.ms).toBe(275);
});

test('it ends when the guest runs at its destination, not when that has written and said so', () => {
  const runsAfter = (resumeMs: number, wayMs: number) => {
    const suspension = new Suspension(LIMITED, () => {});
    vi.advanceTimersByTime(40);
    suspension.mark('prepare');
    vi.advanceTimersByTime(30); // 1 on the way, 8 until it ran there, 21 for a record and the word
    suspension.runsThere(resumeMs, wayMs);
    vi.advanceTimersByTime(100);
    return suspension;
  };
  expect(runsAfter(8, 1).ms).toBe(49);
  expect(runsAfter(8, 1).parts.commit).toBe(9);
  // One that does not know, or says what cannot be.
  for (const resumeMs of [0, 1000, -5]) expect(runsAfter(resumeMs, 1).ms).toBe(70);
});
