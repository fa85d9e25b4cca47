import { expect, test } from 'vitest';
import { firstTick, NO_HEARTBEAT, tick } from '../../../lib/guest/simulated/heartbeat-clock.ts';

const at = (monotonic: number, realtime = 1e6 + monotonic, bootId = 'here') => ({
  ...{ monotonic, realtime, bootId },
});

test('the first boot is not a suspension', () => {
  const state = tick(tick(firstTick(NO_HEARTBEAT, at(100)), at(102)), at(110));
  expect(state).toMatchObject({ ticks: 3, suspensions: [], worstGapWhileRunningMs: 8 });
});

test('on one host a suspension is measured on its monotonic clock', () => {
  const before = tick(firstTick(NO_HEARTBEAT, at(100)), at(102));
  // Someone set the wall clock back in between.
  const after = firstTick(before, at(140, 5));
  expect(after.suspensions).toEqual([{ ms: 38, clock: 'monotonic' }]);
  expect(after.worstGapWhileRunningMs).toBe(2);
});

test('between hosts it is measured on their wall clocks', () => {
  const before = firstTick(NO_HEARTBEAT, at(900_000, 5000));
  const after = firstTick(before, at(3, 5250, 'there'));
  expect(after.suspensions).toEqual([{ ms: 250, clock: 'realtime' }]);
  expect(tick(after, at(5, 5252, 'there')).worstGapWhileRunningMs).toBe(2);
});

test('the last 16 suspensions are kept', () => {
  let state = firstTick(NO_HEARTBEAT, at(0));
  for (let i = 1; i <= 20; i++) state = firstTick(state, at(i * i));
  expect(state.suspensions.map(({ ms }) => ms)).toEqual(
    Array.from({ length: 16 }, (_, i) => 2 * (i + 5) - 1),
  );
});
