import { expect, test } from 'vitest';
import { type Asked, foretell } from '../../lib/migration/check/foretell.ts';
import { lessonsFor } from '../../lib/precopy/calibration.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import type { PastMove } from '../../lib/precopy/past-moves.ts';
import type { GuestProfile } from '../../lib/precopy/profile.ts';

const TOTAL = 262_144;
const subject = {
  ...{ guest: 'vm1', hypervisor: 'qemu', deviceModel: 'm', peer: 'hostb:7070' },
  ...{ totalPages: TOTAL, deviceStateBytes: undefined },
};
const way = {
  ...{ rate: 120e6, spread: 0.1, lanes: 2, compresses: true, roundTripMs: 0.5 },
  ...{ peerJournalMs: 2, verifyRate: 0, cap: undefined },
};
const before: PastMove = {
  ...{ ...subject, guest: 'vm2', kind: 'move', time: '2026-01-02T03:04:05.000Z', moved: true },
  ...{ givenUp: false, foretold: [], totalMs: 1000, suspensionMs: 10, setupMs: 300 },
  ...{ way, seen: undefined, pace: undefined },
};
const asked: Asked & { arrivesPaused: boolean } = {
  request: {
    ...{ guest: 'vm1', host: 'hostb', port: 7070, policy: 'contract', limits: {} },
    ...{ compression: 'auto', verify: false },
  },
  limits: policyLimits('contract', { maxSuspendMs: 10_000 }),
  subject,
  experiences: {
    moves: [],
    ways: [before],
    lessonsFor: () => lessonsFor(subject, []),
    foretoldBy: () => undefined,
  },
  arrivesPaused: false,
};

/** Of a guest that dirties 3,000 other pages each second. */
const sampled: GuestProfile = {
  ...{ guest: 'vm1', time: '2026-01-02T03:04:05.000Z', ms: 10_000, totalPages: TOTAL },
  ...{ zeroShare: 0, compressedShare: 1, method: 'page-sampling' },
  workingSet: [100, 1000, 10_000].map((windowMs) => {
    return { windowMs, pages: windowMs * 3, high: windowMs * 3 };
  }),
};

test('a guest is as fast as in its rehearsal, and faster than in any other profile', () => {
  const told = (profile: GuestProfile) => foretell(asked, 1, profile)[0]!;
  const twice: GuestProfile = {
    ...{ ...sampled, method: 'rehearsal', pace: { low: 1, high: 1 } },
    workingSet: sampled.workingSet.map(({ windowMs, pages }) => {
      return { windowMs, pages: pages * 2, high: pages * 2 };
    }),
  };
  const [guessed, rehearsed] = [told(sampled), told(twice)];
  expect(guessed.basis).toContain('dirty pages as in its profile, ');
  expect(rehearsed.basis).toContain('dirty pages as in its rehearsal, ');
  // The usual case of a guess is twice the profile's pace, which this rehearsal has seen.
  expect(rehearsed.totalMs!.expected).toBeCloseTo(guessed.totalMs!.expected);
  expect(rehearsed.totalMs!.low).toBeGreaterThan(guessed.totalMs!.low);
  expect(rehearsed.totalMs!.high).toBeLessThan(guessed.totalMs!.high);
});
