import { expect, test } from 'vitest';
import { xenPolicy } from '../../../lib/precopy/policy/xen.ts';
import { type PolicyLimits, type PrecopyStats, UNKNOWN } from '../../../lib/precopy/stats.ts';
import { afterForecasts, LIMITS } from './stats.ts';

const xen = { ...LIMITS, maxSuspendMs: undefined };

function ask(stats: Partial<PrecopyStats>, limits: Partial<PolicyLimits> = {}): string {
  const asked = { ...afterForecasts([], 1000), ...stats };
  const { action, reason } = xenPolicy(asked, { ...xen, ...limits });
  return `${action}: ${reason}`;
}

test.each([
  // what the loop shows, what Xen does
  [
    { iteration: 0, dirtyCount: 131_072 },
    'continue: 0 rounds of at most 5 done; 131072 dirty pages are not fewer than 50',
  ],
  [
    { iteration: 1, dirtyCount: UNKNOWN },
    'continue: 1 round of at most 5 done; the dirty pages are known after the next sync',
  ],
  [
    { iteration: 1, dirtyCount: 50 },
    'continue: 1 round of at most 5 done; 50 dirty pages are not fewer than 50',
  ],
  [{ iteration: 1, dirtyCount: 49 }, 'stop-and-copy: 49 dirty pages are fewer than 50'],
  [{ iteration: 1, dirtyCount: 0 }, 'stop-and-copy: 0 dirty pages are fewer than 50'],
  [
    { iteration: 4, dirtyCount: 9000 },
    'continue: 4 rounds of at most 5 done; 9000 dirty pages are not fewer than 50',
  ],
  [{ iteration: 5, dirtyCount: UNKNOWN }, 'stop-and-copy: 5 rounds of at most 5 are done'],
  [{ iteration: 0, dirtyCount: 20 }, 'stop-and-copy: 20 dirty pages are fewer than 50'],
] as const)('%o', (stats, said) => {
  expect(ask(stats)).toBe(said);
});

test('the knobs are raw: forecasts and thresholds change nothing', () => {
  const stats = { iteration: 1, dirtyCount: 500 };
  expect(ask(stats, { maxSuspendMs: 10, abortAboveMs: 10 })).toBe(ask(stats));
});

test('a cutover stops at once, whatever is dirty', () => {
  const stats = { when: 'in-round', dirtyCount: UNKNOWN, cutoverRequested: true } as const;
  expect(ask(stats)).toBe('stop-and-copy: cutover requested after 0 rounds');
});

test('a time limit aborts, also within a round and when the rounds are used up', () => {
  const stats = { when: 'in-round', dirtyCount: UNKNOWN, elapsedMs: 60_000 } as const;
  const said = 'abort: the time limit of 1 m 00 s passed after';
  expect(ask(stats, { timeoutMs: 60_000 })).toBe(`${said} 0 rounds`);
  expect(ask({ ...stats, iteration: 5 }, { timeoutMs: 60_000 })).toBe(`${said} 5 rounds`);
  expect(ask(stats, { timeoutMs: 60_001 })).toMatch(/^continue/);
});

test('a guest that is held is kept ready, whatever the knobs say', () => {
  const hold = { opensMs: UNKNOWN, closesMs: UNKNOWN };
  const ready = afterForecasts([12], 1000, { hold });
  expect(ask(ready)).toMatch(/^hold: ready, .*; held until a cutover is ordered$/);
  expect(ask({ ...ready, iteration: 9 })).toMatch(/^hold: ready/);
  expect(ask({ ...ready, cutoverRequested: true })).toMatch(/^stop-and-copy: cutover requested/);
  expect(ask({ ...ready, elapsedMs: 5000 }, { timeoutMs: 5000 })).toMatch(/^abort: the 5.00 s of/);
});

test('a limit is what a cutover is judged by', () => {
  const ordered = afterForecasts([900], 1000, { cutoverRequested: true });
  expect(ask(ordered)).toBe('stop-and-copy: cutover requested after 1 round');
  expect(ask(ordered, { maxSuspendMs: 300 })).toMatch(/^continue: .* it would be rolled back/);
});
