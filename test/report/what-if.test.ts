import { beforeAll, describe, expect, test } from 'vitest';
import { parseLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { type WhatIf, whatIfs, whatIfTable } from '../../lib/report/what-if.ts';
import { MIB } from '../precopy/simulator.ts';
import { failedBeforeRound1 } from './fixtures.ts';
import { simulated } from './simulated-ledger.ts';

/** Of a guest that is never nearer than about 2.8 s. */
let records: LedgerRecord[];
let all: WhatIf[];

beforeAll(async () => {
  const found = [1428, 1418, 1422, 1426, 1419];
  let sync = 0;
  const { text, outcome } = await simulated({
    guest: (from, to) => (to - from < 1000 ? 0 : found[sync++ % 5]! * MIB),
    ...{ totalPages: 2048 * MIB, drainRate: 0.5 * 2 ** 30 },
    limits: { maxSuspendMs: 2000, timeoutMs: 120_000 },
  });
  expect(outcome).toBe('abort');
  records = parseLedger(text);
  all = await whatIfs(records);
});

describe('what another limit or policy would have done', () => {
  test('is what a replay says, for each of a few', () => {
    expect(all.map(({ change, replayed }) => `${change}: ${replayed.outcome}`)).toEqual([
      'half the suspension limit, 1 s: abort',
      'twice the suspension limit, 4 s: stop-and-copy',
      'completion preferred: stop-and-copy',
      'the xen policy: stop-and-copy',
    ]);
  });

  test('is told with the moment, the reason and the smallest limit that would have done', () => {
    const { text } = whatIfTable(all);
    expect(text).toContain(
      'With twice the suspension limit, 4 s</th><td>the guest would have been',
    );
    expect(text).toMatch(
      /With half the suspension limit, 1 s<\/th><td>the move would have been given up/,
    );
    expect(text).toMatch(/smallest limit that would have done: with --max-suspend-time 2\d\d\dms/);
  });

  test('is nothing where nothing was asked, or far too much', async () => {
    expect(await whatIfs(failedBeforeRound1())).toEqual([]);
    expect(whatIfTable([]).text).toBe('');
    const consultation = records.find(({ type }) => type === 'consultation')!;
    expect(await whatIfs([records[0]!, ...Array(5001).fill(consultation)])).toEqual([]);
  });

  test('leaves out what does not go with the limits of the record', async () => {
    const [start, ...rest] = records as [
      Extract<LedgerRecord, { type: 'start' }>,
      ...LedgerRecord[],
    ];
    const limits = { ...start.limits, pauseBelowMs: 1500 };
    const found = await whatIfs([{ ...start, limits }, ...rest]);
    expect(found.map(({ change }) => change)).not.toContain('half the suspension limit, 1 s');
    expect(found.length).toBe(3);
  });
});
