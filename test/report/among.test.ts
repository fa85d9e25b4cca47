import { expect, test } from 'vitest';
import { amongInWords, suspensionsAmong } from '../../lib/report/among.ts';
import { amongFigure } from '../../lib/report/figures/among.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { tellStory } from '../../lib/report/story.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';
import { busyGuest, idleGuest, neverConverging, oneOfTwenty, oneOfTwo } from './fixtures.ts';

const asRead = (records: readonly LedgerRecord[]) =>
  parseLedger(records.map((record) => `${JSON.stringify(record)}\n`).join(''));

test('a move is shown among those of its guest before it, from its ledger alone', () => {
  const records = asRead(oneOfTwenty());
  const all = suspensionsAmong(tellStory(records))!;
  expect(all).toHaveLength(20);
  expect(all.at(-1)).toMatchObject({ ms: summarize(records).suspension!.guestMs, moved: true });
  expect(amongInWords(all)).toBe(
    '110 ms, median 99 ms (76 ms to 301 ms) of the last 20 of this guest; limit 300 ms kept, 18 of 19 kept theirs; outside its forecast, 16 of 18 were inside',
  );
  const { title, caption, table } = amongFigure(tellStory(records))!;
  expect(title).toBe('This move among the last 20 of db-primary');
  expect(caption).toMatch(/18 of 19 kept their limit, 16 of 18 lay inside their forecast\.$/);
  expect(table.rows[0]).toEqual(['2026-01-31 03:04', '240 ms', '–', '–', 'moved']);
  expect(table.rows[7]!.at(-1)).toBe('rolled back');
  expect(table.rows.at(-1)![0]).toBe('this move');
});

test('of few, and of some whose limit or forecast is not known, what is known is said', () => {
  const all = suspensionsAmong(tellStory(asRead(oneOfTwo())))!;
  expect(amongInWords(all)).toBe(
    '291 ms, median 2.90 s (291 ms to 2.90 s) of the last 2 of this guest; limit 300 ms kept, 2 of 2 kept theirs',
  );
  const { limitMs: _, forecast: __, ...bare } = all[0]!;
  const unknown = { ...bare, limitMs: undefined, forecast: undefined };
  expect(amongInWords([unknown, unknown])).toBe(
    '2.90 s, median 2.90 s (2.90 s to 2.90 s) of the last 2 of this guest',
  );
});

test('a first move, one that was never suspended and an older ledger are not compared', () => {
  for (const records of [idleGuest(), busyGuest(), neverConverging()]) {
    expect(suspensionsAmong(tellStory(records))).toBeUndefined();
    expect(amongFigure(tellStory(records))).toBeUndefined();
    expect(summaryText(summarize(records))).not.toMatch(/among|foretold/);
  }
  const first: LedgerRecord = { type: 'earlier', at: 1, suspensions: [] };
  expect(suspensionsAmong(tellStory([...busyGuest(), first]))).toBeUndefined();
});

test('what a check foretold stands beside what came', () => {
  expect(summaryText(summarize(asRead(oneOfTwenty())))).toMatch(
    /^ {2}foretold {4}by a check: suspension 60 ms to 140 ms, whole move .* in 5 to 9 rounds; fits --max-suspend-time 300ms: yes/m,
  );
});
