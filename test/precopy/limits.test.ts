import { describe, expect, test } from 'vitest';
import {
  changeLimits,
  type LimitsChange,
  type PolicyName,
  policyLimits,
} from '../../lib/precopy/limits.ts';
import { Steering } from '../../lib/precopy/steering.ts';

const refusal = (policy: PolicyName, given: object): string => {
  try {
    policyLimits(policy, given as LimitsChange);
    return 'accepted';
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return `${code}: ${message}`;
  }
};

describe('defaults', () => {
  test('contract and custom promise 300 ms, xen promises nothing', () => {
    const contract = policyLimits('contract', {});
    expect(contract).toEqual({
      maxSuspendMs: 300,
      timeoutMs: undefined,
      prefer: 'workload',
      pauseBelowMs: undefined,
      abortAboveMs: undefined,
      maxIters: 5,
      minRemaining: 50,
    });
    expect(policyLimits('custom', {})).toEqual(contract);
    expect(policyLimits('xen', {})).toEqual({ ...contract, maxSuspendMs: undefined });
    expect(Object.isFrozen(contract)).toBe(true);
  });

  test('what is given replaces them', () => {
    const given = { maxSuspendMs: 500, prefer: 'completion', abortAboveMs: 2000 } as const;
    expect(policyLimits('contract', given)).toMatchObject(given);
    expect(policyLimits('xen', { maxIters: 30, minRemaining: 0 }).maxIters).toBe(30);
  });
});

describe('refusals name the option and what is allowed', () => {
  test.each([
    ['contract', { maxSuspendMs: 9 }, '--max-suspend-time must be 10 ms to 1 h 00 m, not 9 ms'],
    ['contract', { maxSuspendMs: true }, '--max-suspend-time must be 10 ms to 1 h 00 m, not true'],
    ['contract', { maxSuspendMs: '1s' }, '--max-suspend-time must be 10 ms to 1 h 00 m, not "1s"'],
    [
      'contract',
      { maxSuspendMs: null },
      '--max-suspend-time cannot be taken away; only the xen policy does without it',
    ],
    ['contract', { timeoutMs: 999 }, '--timeout must be 1.00 s to 168 h 00 m, not 999 ms'],
    ['contract', { prefer: 'speed' }, '--prefer must be workload or completion, not "speed"'],
    ['contract', { pauseBelowMs: 0 }, '--pause-below must be 1 ms to 1 h 00 m, not 0 ms'],
    [
      'contract',
      { pauseBelowMs: 400 },
      '--pause-below is 400 ms, but --max-suspend-time allows only 1 ms to 300 ms',
    ],
    [
      'contract',
      { pauseBelowMs: 200, abortAboveMs: 100 },
      '--pause-below is 200 ms, but --abort-above allows only 1 ms to 100 ms',
    ],
    [
      'contract',
      { maxIters: 5 },
      '--max-iters has no meaning for the contract policy; leave it out',
    ],
    ['xen', { prefer: 'completion' }, '--prefer has no meaning for the xen policy; leave it out'],
    ['xen', { maxIters: 0 }, '--max-iters must be a whole number from 1 to 10000, not 0'],
    ['xen', { maxIters: 2.5 }, '--max-iters must be a whole number from 1 to 10000, not 2.5'],
    [
      'xen',
      { minRemaining: -1 },
      '--min-remaining must be a whole number from 0 to 4294967296, not -1',
    ],
  ] as const)('%s %o', (policy, given, message) => {
    expect(refusal(policy, given)).toBe(`bad-option: ${message}`);
  });

  test('completion may pause above the suspension limit, so a higher floor is allowed', () => {
    expect(refusal('contract', { pauseBelowMs: 400, prefer: 'completion' })).toBe('accepted');
  });
});

describe('in flight', () => {
  const before = policyLimits('contract', { timeoutMs: 60_000, pauseBelowMs: 200 });

  test('a field left out stays, null takes a limit away', () => {
    const after = changeLimits('contract', before, { maxSuspendMs: 900, timeoutMs: null });
    expect(after).toEqual({ ...before, maxSuspendMs: 900, timeoutMs: undefined });
  });

  test('limits are checked together with those that stay', () => {
    expect(() => changeLimits('contract', before, { maxSuspendMs: 100 })).toThrow(
      '--pause-below is 200 ms, but --max-suspend-time allows only 1 ms to 100 ms',
    );
  });

  test('a refused change leaves everything as it was and wakes nobody', () => {
    const steering = new Steering('contract', before);
    let woken = 0;
    const unsubscribe = steering.onChange(() => woken++);
    expect(() => steering.change({ timeoutMs: 1 })).toThrow('--timeout');
    expect([steering.limits, steering.changes, woken]).toEqual([before, 0, 0]);
    steering.change({ timeoutMs: 5000 });
    steering.cutover();
    expect([steering.limits.timeoutMs, steering.cutoverRequested]).toEqual([5000, true]);
    expect([steering.changes, woken]).toEqual([2, 2]);
    unsubscribe();
    steering.cutover();
    expect(woken).toBe(2);
  });
});
