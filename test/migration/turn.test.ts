import { expect, test } from 'vitest';
import { SharedLink } from '../../lib/evacuation/shared-link.ts';
import { inTurn } from '../../lib/migration/source/precopy.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import type { Consult } from '../../lib/precopy/loop.ts';
import type { PrecopyStats, Verdict } from '../../lib/precopy/stats.ts';
import { Steering } from '../../lib/precopy/steering.ts';

const LIMITS = policyLimits('contract', {});

/** A guest of an evacuation whose policy always says the same. */
function guest(name: string, link: SharedLink, action: Verdict['action'] = 'stop-and-copy') {
  const consult: Consult = async () => ({ verdict: { action, reason: 'it fits' } });
  link.join(name);
  const turn = { take: () => link.take(name), giveBack: () => link.giveBack(name) };
  const steering = new Steering('contract', LIMITS);
  const asked = inTurn(consult, turn, steering);
  const decide = async (when: PrecopyStats['when'] = 'before-round') =>
    (await asked({ when } as PrecopyStats, LIMITS)).verdict;
  return { decide, steering };
}

test('one guest at a time is suspended; the other goes on, and is when the first is done', async () => {
  const link = new SharedLink(125e6, 2);
  const [first, second] = [guest('vm1', link), guest('vm2', link)];
  expect((await first.decide()).action).toBe('stop-and-copy');
  expect(await second.decide()).toEqual({
    action: 'continue',
    reason: expect.stringContaining('it fits; another guest'),
  });
  link.giveBack('vm1');
  expect((await second.decide('after-round')).action).toBe('stop-and-copy');
});

test('a verdict that is not the last word keeps nobody waiting', async () => {
  const link = new SharedLink(undefined, 2);
  const [resting, other] = [guest('vm1', link), guest('vm2', link)];
  expect((await resting.decide('at-rest')).action).toBe('stop-and-copy'); // one more look decides
  expect((await other.decide()).action).toBe('stop-and-copy');
  expect((await other.decide('at-rest')).action).toBe('stop-and-copy');
  expect((await resting.decide()).action).toBe('stop-and-copy'); // the other has given it back
});

test('an order to cut over, and every other verdict, do not wait', async () => {
  const link = new SharedLink(undefined, 3);
  const [first, ordered, hopeless] = [
    ...[guest('vm1', link), guest('vm2', link), guest('vm3', link, 'abort')],
  ];
  await first!.decide();
  expect((await ordered!.decide()).action).toBe('continue');
  ordered!.steering.cutover();
  expect((await ordered!.decide()).action).toBe('stop-and-copy');
  expect((await hopeless!.decide()).action).toBe('abort');
});
