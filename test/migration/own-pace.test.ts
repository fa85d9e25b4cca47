import { describe, expect, it } from 'vitest';
import type { PushingGuest, SourceGuest } from '../../lib/guest/guest.ts';
import { atOwnPace, limitUntilTakenUp } from '../../lib/migration/source/own-pace.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import type { Consult } from '../../lib/precopy/loop.ts';
import { type PrecopyStats, UNKNOWN, type Verdict } from '../../lib/precopy/stats.ts';

const LIMITS = policyLimits('contract', { maxSuspendMs: 300 });
const guest = (ownPace?: PushingGuest['ownPace']) =>
  ({ pages: 'pushed', ...(ownPace && { ownPace }) }) as SourceGuest;
const says =
  (action: Verdict['action']): Consult =>
  async () =>
    ({ verdict: { action, reason: 'as it is' } }) as Awaited<ReturnType<Consult>>;

async function verdict(
  action: Verdict['action'],
  ownPace?: { stands: boolean; standsMs: number | undefined },
): Promise<Verdict> {
  return (await atOwnPace(says(action), guest(ownPace))({} as PrecopyStats, LIMITS)).verdict;
}

describe('a guest whose hypervisor suspends it when it sees fit', () => {
  it('is given up when it may have stood for too long, and not before', async () => {
    for (const action of ['continue', 'stop-and-copy', 'hold'] as const) {
      expect((await verdict(action, { stands: false, standsMs: undefined })).action).toBe(
        'continue',
      );
      expect((await verdict(action, { stands: false, standsMs: 299 })).action).toBe('continue');
      const late = await verdict(action, { stands: false, standsMs: 301 });
      expect(late.action).toBe('abort');
      expect(late.reason).toContain('--max-suspend-time is 300 ms');
    }
  });

  it('is given up when the policy says so, and suspended only once it stands', async () => {
    expect((await verdict('abort', { stands: false, standsMs: 0 })).action).toBe('abort');
    for (const action of ['continue', 'stop-and-copy', 'abort'] as const)
      expect(await verdict(action, { stands: true, standsMs: 5000 })).toEqual({
        action,
        reason: 'as it is',
      });
  });

  it('has its limit also while its suspension is not taken up', async () => {
    const missed = await new Promise<{ code: string }>((resolve) => {
      limitUntilTakenUp(guest({ stands: true, standsMs: 500 }), 300, resolve);
    });
    expect(missed.code).toBe('suspension-limit');
    const never = () => expect.unreachable('it was called off, or has no limit');
    limitUntilTakenUp(guest({ stands: true, standsMs: 300 }), 310, never)();
    limitUntilTakenUp(guest({ stands: true, standsMs: 500 }), undefined, never);
    limitUntilTakenUp(guest(), 1, never);
    await new Promise((resolve) => setTimeout(resolve, 30));
  });
});

describe('a guest whose hypervisor asks when its rounds are over', () => {
  const FORECAST = { low: 150, expected: 200, high: 250, fixed: 50, after: 10, reserve: 60 };
  const HELD = { opensMs: UNKNOWN, closesMs: UNKNOWN };

  async function asked(
    asks: boolean,
    action: Verdict['action'],
    stats: Partial<PrecopyStats> = {},
    limitMs = 300,
  ): Promise<string> {
    const consult = atOwnPace(says(action), guest({ stands: false, standsMs: undefined, asks }));
    const limits = policyLimits('contract', { maxSuspendMs: limitMs });
    const all = {
      when: 'before-round',
      iteration: 5,
      estimate: FORECAST,
      ...stats,
    } as PrecopyStats;
    return (await consult(all, limits)).verdict.action;
  }

  it('goes on in rounds until it does, however long they take', async () => {
    for (const action of ['continue', 'stop-and-copy', 'hold'] as const)
      expect(await asked(false, action)).toBe('continue');
    expect(await asked(false, 'abort')).toBe('abort');
  });

  it('is suspended then if the forecast fits, and given up without a suspension if not', async () => {
    expect(await asked(true, 'stop-and-copy')).toBe('stop-and-copy');
    expect(await asked(true, 'continue')).toBe('stop-and-copy');
    expect(await asked(true, 'continue', { estimate: undefined })).toBe('stop-and-copy');
    expect(await asked(true, 'continue', {}, 100)).toBe('abort');
  });

  it('is not suspended before its first round was counted, within one, or while it is held', async () => {
    expect(await asked(true, 'continue', { iteration: 0 })).toBe('continue');
    expect(await asked(true, 'continue', { when: 'in-round' })).toBe('continue');
    expect(await asked(true, 'continue', { hold: HELD })).toBe('hold');
    expect(await asked(true, 'hold', { hold: HELD })).toBe('hold');
  });
});

it('others are moved as the policy says', async () => {
  for (const action of ['continue', 'stop-and-copy', 'hold', 'abort'] as const)
    expect((await verdict(action)).action).toBe(action);
});
