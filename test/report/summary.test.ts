import { describe, expect, test } from 'vitest';
import type { PolicyLimits } from '../../lib/precopy/stats.ts';
import { renderReport } from '../../lib/report/html.ts';
import type {
  ConsultationRecord,
  EndRecord,
  LedgerRecord,
  RoundRecord,
} from '../../lib/report/records.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';
import {
  busyGuest,
  cancelledInRound1,
  failedBeforeRound1,
  idleGuest,
  neverConverging,
  rolledBack,
  unfinished,
  xenMissed,
} from './fixtures.ts';

const NO_PAGES = { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 };

/** A small ledger of round figures, to be checked by head. */
function byHand(): LedgerRecord[] {
  const round = (fields: Partial<RoundRecord>): RoundRecord => ({
    type: 'round',
    at: 0,
    round: 1,
    stopAndCopy: false,
    cutShort: false,
    dirtyPages: 0,
    sentPages: 0,
    ms: 0,
    wireBytes: 0,
    encodings: NO_PAGES,
    rawBytes: 0,
    rawWireBytes: 0,
    levels: {},
    ...fields,
  });
  return [
    idleGuest()[0]!,
    round({ at: 2000, ms: 1500, dirtyPages: 1000, sentPages: 1000, wireBytes: 1_500_000 }),
    round({ at: 3000, round: 2, stopAndCopy: true, ms: 500, sentPages: 24, wireBytes: 500_000 }),
    {
      type: 'suspension',
      at: 3100,
      side: 'destination',
      estimate: { low: 20, expected: 30, high: 50 },
      limitMs: 300,
      parts: { suspend: 1 },
      agentMs: 38,
      guestMs: 41,
      clock: 'monotonic',
    },
    {
      type: 'end',
      at: 4000,
      outcome: 'completed',
      code: undefined,
      message: 'done',
      rounds: 2,
      pages: 1024,
      wireBytes: 2_097_152,
      encodings: { ...NO_PAGES, raw: 768, zero: 256 },
    },
  ];
}

describe('figures', () => {
  test('are those that one gets by head', () => {
    expect(summarize(byHand())).toMatchObject({
      outcome: 'completed',
      rounds: 2,
      elapsedMs: 4000,
      pages: 1024,
      guestBytes: 4_194_304,
      wireBytes: 2_097_152,
      wireRatio: 0.5,
      wireRate: 1_000_000, // 2 MB in 2 s of rounds
      guestRate: 512 * 4096,
      promise: {
        result: 'kept',
        limitMs: 300,
        actualMs: 41,
        by: 'guest',
        spareMs: 259,
        enoughMs: undefined,
      },
    });
  });

  test('without an end come from the last consultation and the rounds', () => {
    const records = unfinished();
    const last = records.findLast((record) => record.type === 'consultation')!;
    const rounds = records.filter((record) => record.type === 'round');
    const summary = summarize(records);
    expect(summary.outcome).toBe('running');
    expect(summary.rounds).toBe(4);
    expect(summary.pages).toBe(last.stats.totalWritten);
    expect(summary.encodings.raw).toBe(
      rounds.reduce((sum, { encodings }) => sum + encodings.raw, 0),
    );
  });

  test('of nothing sent are no figures, not zero divided by zero', () => {
    const summary = summarize(failedBeforeRound1());
    expect(summary).toMatchObject({ wireRatio: undefined, wireRate: undefined, pages: 0 });
    expect(summaryText(summary)).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe('the promise', () => {
  test('is judged by the guest when it could tell, by the agents when not', () => {
    const records = byHand();
    const late = records.map((record) =>
      record.type === 'suspension' ? { ...record, guestMs: 312 } : record,
    );
    expect(summarize(late).promise).toMatchObject({
      result: 'missed',
      actualMs: 312,
      by: 'guest',
      spareMs: -12,
      enoughMs: 344,
    });
    const byAgents = summarize(xenMissed()).promise!;
    expect(byAgents.result).toBe('missed');
    expect(byAgents.spareMs).toBeCloseTo(-129.2);
  });

  test('that was not kept names what the migration said would have been enough', () => {
    expect(summarize(rolledBack()).promise).toMatchObject({ result: 'rolled-back', enoughMs: 350 });
    expect(summarize(neverConverging()).promise).toMatchObject({
      ...{ result: 'never-suspended', limitMs: 300, enoughMs: 3600 },
    });
  });

  test('of a cancelled move suggests nothing', () => {
    expect(summarize(cancelledInRound1()).promise).toMatchObject({ enoughMs: undefined });
  });

  test('with prefer completion is the one that was enforced', () => {
    const change = (limits: PolicyLimits): PolicyLimits => ({ ...limits, prefer: 'completion' });
    const records = cancelledInRound1().map((record) =>
      record.type === 'start' ? { ...record, limits: change(record.limits) } : record,
    );
    expect(summarize(records).promise?.limitMs).toBe(2000);
  });

  test('is absent when no limit was set', () => {
    const records = cancelledInRound1().map((record) =>
      record.type === 'start'
        ? { ...record, limits: { ...record.limits, maxSuspendMs: undefined } }
        : record,
    );
    expect(summarize(records).promise).toBeUndefined();
  });
});

describe('turning points', () => {
  const what = (records: LedgerRecord[]) =>
    summarize(records).turningPoints.map((point) => point.what);

  test('of a completed move', () => {
    expect(what(busyGuest())).toEqual([
      'Started',
      'Round 1 done',
      'Limits changed',
      'Note',
      'Note',
      'Stop-and-copy after round 8',
      'Guest runs at the destination',
      'Completed',
    ]);
  });

  test('of one that was given up, with how near it came', () => {
    expect(what(neverConverging())).toEqual([
      'Started',
      'Round 1 done',
      'Lowest forecast, after round 11',
      'Given up after round 30',
      'Aborted by policy',
    ]);
  });

  test('of a roll back', () => {
    expect(what(rolledBack()).slice(-4)).toEqual([
      'Stop-and-copy after round 4',
      'Guest runs on at the source',
      'Note',
      'Aborted by policy',
    ]);
  });

  test('name a policy that did not answer, once', () => {
    expect(what(xenMissed()).filter((text) => text === 'The policy did not answer')).toHaveLength(
      1,
    );
  });

  test('end where the ledger ends', () => {
    expect(what(unfinished()).at(-1)).toBe('The ledger ends here');
    expect(what(failedBeforeRound1())).toEqual(['Started', 'Failed']);
  });
});

describe('the text at the end of a migration', () => {
  test('says everything once', () => {
    expect(summaryText(summarize(byHand()))).toMatchInlineSnapshot(`
      "  outcome     completed
        move        web-3 → rack4-host12:7340, 2 rounds in 4.00 s
        suspension  promised ≤ 300 ms, guest saw 41 ms: kept with 259 ms to spare
                    forecast 30 ms (20 ms to 50 ms), agents timed 38 ms
        sent        2 MiB on the wire for 4 MiB of guest memory (50 %)
        rate        976.6 KiB/s on the wire, 2 MiB/s of guest memory
        pages       raw 75 %, zero 25 %"
    `);
  });

  test('explains an abort', () => {
    expect(summaryText(summarize(rolledBack()))).toMatchInlineSnapshot(`
      "  outcome     aborted by policy (suspension-limit)
                    the suspension could not end within 300 ms and was rolled back; mail-2 runs on here
        move        mail-2 → rack4-host12:7340, 5 rounds in 15.70 s
        suspension  promised ≤ 300 ms: could not be kept, rolled back; guest saw 291 ms; 350 ms would have been enough
                    forecast 135 ms (101 ms to 192 ms), agents timed 289 ms
        sent        677.9 MiB on the wire for 2.2 GiB of guest memory (30 %)
        rate        44.2 MiB/s on the wire, 145.2 MiB/s of guest memory
        pages       raw 60 %, zero 29 %, copy 6 %, delta 4 %, same 1 %
        why         Stop-and-copy after round 4: the forecast is below pause-below 150 ms"
    `);
  });

  test('cannot take over a terminal', () => {
    const end: EndRecord = {
      ...(byHand().at(-1) as EndRecord),
      outcome: 'failed',
      message: '\x1b[2Jx',
    };
    expect(summaryText(summarize([...byHand().slice(0, -1), end]))).not.toContain('\x1b');
  });
});

test('a guest that was held: for how long, and what that has cost', () => {
  const ledger = idleGuest().map((record) => structuredClone(record));
  const first = ledger.find(
    (record) => record.type === 'consultation' && record.stats.iteration > 0,
  );
  const held = {
    ...(first as ConsultationRecord),
    verdict: { action: 'hold', reason: 'ready, forecast 14 ms; held until a cutover is ordered' },
  } as const;
  const after = ledger.findIndex(({ at }) => at > held.at);
  const at = held.at + 60_000;
  const stats = { ...held.stats, wireBytes: held.stats.wireBytes + 2 ** 20 };
  const story: LedgerRecord[] = [
    ...ledger.slice(0, after),
    held,
    { ...held, at, stats },
    { ...held, at, stats, verdict: { action: 'stop-and-copy', reason: 'cutover requested' } },
  ];
  const summary = summarize(story);
  expect(summary.held).toMatchObject({ ms: 60_000, wireBytes: 2 ** 20 });
  expect(summaryText(summary)).toMatch(
    /^ {2}held +1 m 00 s for 1 MiB on the wire, 1 MiB a minute$/m,
  );
  const [point] = summary.turningPoints.filter(({ what }) => what === 'Held');
  expect(point).toMatchObject({ at: held.at, why: held.verdict.reason });
  expect(renderReport(story)).toContain('Held ready');
  // One that ends while it is held was not suspended.
  const cut = summarize(story.slice(0, -1));
  expect(cut.turningPoints.some(({ what }) => /^Stop-and-copy|^Given up/.test(what))).toBe(false);
});
