import { expect, test } from 'vitest';
import type { ProfileMethod } from '../../lib/guest/profile.ts';
import { MoveWatch } from '../../lib/migration/source/move-watch.ts';
import type { PastMove } from '../../lib/precopy/past-moves.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import {
  busyGuest,
  failedBeforeRound1,
  neverConverging,
  rolledBack,
  xenMissed,
} from '../report/fixtures.ts';

const subject = {
  ...{ guest: 'vm1', hypervisor: 'simulated', deviceModel: 'm', peer: 'hostb:7070' },
  ...{ totalPages: 262_144, deviceStateBytes: undefined },
};
const MET = { lanes: 2, compresses: true, roundTripMs: 1, peerJournalMs: 2, verifyRate: 0 };

function seen(records: readonly LedgerRecord[]): PastMove | undefined {
  const watch = new MoveWatch(subject);
  watch.met(MET);
  return records.map((record) => watch.see(record)).at(-1);
}

test('a move that nobody steered teaches its time, its way and its guest', () => {
  const records = xenMissed();
  const past = seen(records)!;
  const end = records.at(-1)!;
  const suspension = records.find((record) => record.type === 'suspension')!;
  expect(past).toMatchObject({
    ...subject,
    ...{ kind: 'move', moved: true, givenUp: false, foretold: [], totalMs: end.at },
    ...{ suspensionMs: suspension.agentMs, setupMs: 42 },
  });
  // Of the first round, the largest: its pages that are not zero, at the rate that the fixture has.
  const { way, seen: guest } = past;
  expect(way).toMatchObject({ ...MET, cap: undefined });
  expect(way!.rate / guest!.compressedShare!).toBeGreaterThan(112 * 2 ** 20 * 0.9);
  expect(way!.rate / guest!.compressedShare!).toBeLessThan(112 * 2 ** 20 * 1.2);
  expect(guest!.zeroShare).toBeCloseTo(0.31, 2);
});

test('a guest is seen by its rounds, in windows that do not repeat', () => {
  const records = xenMissed();
  const { workingSet } = seen(records)!.seen!;
  const syncs = records.filter(
    (record) => record.type === 'consultation' && record.stats.when === 'before-round',
  );
  const last = syncs.at(-1)!.at - syncs.at(-2)!.at;
  expect(workingSet.map(({ windowMs }) => windowMs)).toContain(last);
  for (const [i, { windowMs, pages, high }] of workingSet.entries()) {
    expect(high).toBe(pages);
    if (i > 0) expect(windowMs / workingSet[i - 1]!.windowMs).toBeGreaterThan(1.4);
  }
  expect(workingSet.length).toBeLessThan(syncs.length);
});

test('the pace of a guest is learned by its profile, and not by its rehearsal', () => {
  const records = xenMissed();
  const profile = seen(records)!.seen!;
  const paceBy = (method: ProfileMethod) => {
    const watch = new MoveWatch(subject);
    watch.foretold([], { ...profile, method });
    return records.map((record) => watch.see(record)).at(-1)!.pace;
  };
  expect(paceBy('dirty-log')).toBeGreaterThan(0);
  expect(paceBy('rehearsal')).toBeUndefined();
});

test('a move whose limits were changed, that was held or ordered, teaches no time', () => {
  const changed = seen(busyGuest())!;
  expect(changed).toMatchObject({ moved: true, totalMs: undefined, way: undefined });
  expect(changed.suspensionMs).toBeGreaterThan(0);
  const alike = (stats: object) =>
    xenMissed().map((record) =>
      record.type === 'consultation' && record.at > 5000
        ? { ...record, stats: { ...record.stats, ...stats } }
        : record,
    );
  expect(seen(alike({ cutoverRequested: true }))!.totalMs).toBeUndefined();
  expect(seen(alike({ sinceHeldMs: 0 }))).toMatchObject({ totalMs: undefined });
  expect(seen(alike({}))!.totalMs).toBeGreaterThan(0);
});

test('a move that was given up or rolled back is not one that came, and an outage hides the way', () => {
  expect(seen(neverConverging())).toMatchObject({
    moved: false,
    givenUp: true,
    totalMs: undefined,
  });
  expect(seen(rolledBack())).toMatchObject({
    moved: false,
    givenUp: true,
    suspensionMs: undefined,
  });
  const outage: LedgerRecord = { type: 'outage', at: 100, ms: 50, reason: 'cut' };
  const [start, ...rest] = xenMissed();
  expect(seen([start!, outage, ...rest])!.way).toBeUndefined();
});

test('one that never began teaches nothing, and one of few pages no way', () => {
  expect(seen(failedBeforeRound1())).toBeUndefined();
  const few = xenMissed().map((record) =>
    record.type === 'round'
      ? { ...record, sentPages: 100, encodings: { ...record.encodings, zero: 0 } }
      : record,
  );
  expect(seen(few)).toMatchObject({ moved: true, way: undefined });
});
