import { expect, test } from 'vitest';
import { lessonsFor } from '../../lib/precopy/calibration.ts';
import { suspensionCosts } from '../../lib/precopy/costs.ts';

const A_SUBJECT = {
  ...{ guest: 'vm1', hypervisor: 'simulated', deviceModel: 'm', peer: 'hostb:7070' },
  totalPages: 262_144,
  deviceStateBytes: undefined,
};

const MEASURED = {
  totalPages: 262_144,
  lanes: 2,
  syncMs: 3,
  roundTripMs: 1,
  journalMs: 2,
  peerJournalMs: 3,
  verifyRate: 0,
  lessons: lessonsFor(A_SUBJECT, []),
};

test('the digest of 1 GiB on two lanes takes half a millisecond, the sync what it took last', () => {
  const costs = suspensionCosts(MEASURED);
  expect(costs.digestMs).toBeCloseTo(0.52, 2);
  expect(costs.suspendMs).toBe(7);
  expect(costs.verifyMs).toBe(0);
  expect(costs.journalMs).toBe(8);
});

test('re-reading memory counts when it is asked for', () => {
  expect(suspensionCosts({ ...MEASURED, verifyRate: 2 ** 31 }).verifyMs).toBe(500);
});
