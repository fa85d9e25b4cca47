import fc from 'fast-check';
import { expect, test } from 'vitest';
import { timeBudget } from '../../lib/report/budget.ts';
import type { LedgerRecord, RoundRecord, SuspensionRecord } from '../../lib/report/records.ts';
import { tellStory } from '../../lib/report/story.ts';
import { busyGuest, FIXTURES, failedBeforeRound1 } from './fixtures.ts';
import { randomLedger } from './random-ledger.ts';

const shares = (records: readonly LedgerRecord[]) =>
  timeBudget(tellStory(records)).map(({ name, ms }) => `${name}: ${ms}`);

function round(number: number, at: number, ms: number): RoundRecord {
  const example = busyGuest().find((record) => record.type === 'round')!;
  return { ...example, round: number, at, ms, stopAndCopy: false };
}

/** Ends at 1000: one round of 500, another one of 100, and 40 of suspension in 200 that are told. */
const start = busyGuest()[0]!;
const end = { ...busyGuest().at(-1)!, at: 1000 } as LedgerRecord;
const suspension: SuspensionRecord = {
  ...{ type: 'suspension', at: 900, fromMs: 800, side: 'destination', estimate: undefined },
  ...{ limitMs: 300, parts: {}, agentMs: 40, guestMs: 38, clock: 'monotonic' },
};

test('every moment is in one share, in the order of the move', () => {
  const records = [start, round(1, 600, 500), round(2, 790, 100), suspension, end];
  expect(shares(records)).toEqual([
    'connecting, making room: 100',
    'round 1, all memory: 500',
    'round 2: 100',
    'between rounds: 100',
    'guest suspended: 40',
    'letting go of the copy here: 160',
  ]);
});

test('a connection that was lost in a round is not time of the round', () => {
  const lost = { type: 'outage', at: 300, ms: 200, reason: 'nothing was heard' } as const;
  expect(shares([start, round(1, 600, 500), lost, end])).toEqual([
    'connecting, making room: 100',
    'round 1, all memory: 300',
    'without a connection: 200',
    'from the last round to the end: 400',
  ]);
});

test('a ledger of before tells only when a suspension was recorded: its last round says more', () => {
  const last = { ...round(2, 830, 20), stopAndCopy: true };
  const parts = { suspend: 6, sync: 4 };
  const before = { ...suspension, fromMs: undefined, parts };
  const found = shares([start, round(1, 600, 500), last, before, end]);
  expect(found).toContain('between rounds: 200');
  expect(found).toContain('guest suspended: 40');
  expect(found).toContain('letting go of the copy here: 160');
});

test('the shares of any ledger are all of its time, and none is less than nothing', () => {
  for (const make of Object.values(FIXTURES)) {
    const story = tellStory(make());
    const sum = timeBudget(story).reduce((total, { ms }) => total + ms, 0);
    if (story.rounds.length > 0) expect(sum).toBeCloseTo(story.until, 6);
  }
  expect(shares(failedBeforeRound1())).toEqual([]);
  fc.assert(
    fc.property(randomLedger(), (records) => {
      const story = tellStory(records);
      const all = timeBudget(story);
      for (const { ms } of all) expect(ms).toBeGreaterThan(0);
      const sum = all.reduce((total, { ms }) => total + ms, 0);
      expect(sum).toBeLessThanOrEqual(story.until * (1 + 1e-9));
    }),
  );
});
