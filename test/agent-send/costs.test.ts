import { expect, test } from 'vitest';
import { suspensionCosts } from '../../agent-send/costs.ts';

const MEASURED = {
  totalPages: 262_144,
  channels: 2,
  syncMs: 3,
  roundTripMs: 1,
  journalMs: 2,
  peerJournalMs: 3,
  verifyRate: 0,
};

test('the digest of 1 GiB on two channels takes half a millisecond, the sync what it took last', () => {
  const costs = suspensionCosts(MEASURED);
  expect(costs.digestMs).toBeCloseTo(0.52, 2);
  expect(costs.suspendMs).toBe(7);
  expect(costs.verifyMs).toBe(0);
  expect(costs.journalMs).toBe(8);
});

test('re-reading memory counts when it is asked for', () => {
  expect(suspensionCosts({ ...MEASURED, verifyRate: 2 ** 31 }).verifyMs).toBe(500);
});
