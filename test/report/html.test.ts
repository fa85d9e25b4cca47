import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { renderReport } from '../../lib/report/html.ts';
import { readLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { suspendedIn, tellStory } from '../../lib/report/story.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';
import { whatIfs } from '../../lib/report/what-if.ts';
import { busyGuest, FIXTURES, failedBeforeRound1, shortMove } from './fixtures.ts';
import { randomLedger } from './random-ledger.ts';

/** As the report sees it: through the file, where `undefined` is absent and infinite is null. */
function stored(records: readonly LedgerRecord[]): LedgerRecord[] {
  return JSON.parse(JSON.stringify(records)) as LedgerRecord[];
}

/** A reader of markup that knows nothing of the writer: every tag that opens must close. */
function checkMarkup(html: string): void {
  const open: string[] = [];
  let at = html.indexOf('>') + 1; // after the doctype
  const tag =
    /<style>[^<]*<\/style>|<(\/?)([a-z0-9]+)((?: [a-z:A-Z0-9-]+="[^"<>]*")*)( \/)?>|[<>]/gi;
  tag.lastIndex = at;
  for (let match = tag.exec(html); match !== null; match = tag.exec(html)) {
    at = match.index;
    const [all, slash, name, attributes = '', closed] = match;
    if (all.startsWith('<style>')) continue;
    if (name === undefined) throw new Error(`stray ${all} at ${html.slice(at - 60, at + 60)}`);
    if (slash === '/') expect(open.pop()).toBe(name);
    else if (closed === undefined) open.push(name);
    if (/NaN|Infinity|undefined|null/.test(attributes)) throw new Error(`bad attribute in ${all}`);
    if (/ on[a-z]+=/.test(attributes)) throw new Error(`a handler in ${all}`);
  }
  expect(open).toEqual([]);
  const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
  expect(new Set(ids).size).toBe(ids.length);
}

describe('the report', () => {
  test.each(Object.keys(FIXTURES))('of %s is whole and without gaps in its figures', (name) => {
    const html = renderReport(stored(FIXTURES[name]!()));
    checkMarkup(html);
    expect(html).not.toMatch(/NaN|Infinity|undefined/);
    expect(html).not.toMatch(/(src|href)=|url\(|@import/);
    expect(html.startsWith('<!doctype html>\n<html lang="en">')).toBe(true);
  });

  test('is the same for the same ledger', () => {
    expect(renderReport(busyGuest())).toBe(renderReport(busyGuest()));
  });

  test('says the outcome and the promise first', () => {
    const html = renderReport(busyGuest());
    expect(html).toContain('<h1>db-primary moved to rack4-host12:7340</h1>');
    expect(html).toContain('Promised ≤ 300 ms, guest saw 110 ms: kept with 190 ms to spare.');
  });

  test('draws limit, thresholds, forecast and the actual suspension, each by name', () => {
    const html = renderReport(busyGuest());
    for (const label of [
      'limit 300 ms',
      'pause below 200 ms',
      'abort above 2 s',
      'guest saw 110 ms',
      'forecast',
    ])
      expect(html).toMatch(new RegExp(`<text class="label ink-[a-z]+"[^>]*>${label}</text>`));
  });

  test('leaves out charts that have no data', () => {
    expect(renderReport(failedBeforeRound1())).not.toContain('<svg');
  });

  test('describes every picture and gives its figures as a table', () => {
    const html = renderReport(busyGuest());
    const figures = html.split('<figure').slice(1);
    expect(figures).toHaveLength(6);
    for (const figure of figures) {
      expect(figure).toMatch(/<title id=[^>]*>[^<]+<\/title><desc id=[^>]*>[^<]+<\/desc>/);
      expect(figure).toMatch(/<details>.*<table.*<td>/s);
    }
  });

  test('shows no picture of a short move that has nothing to show', () => {
    const html = renderReport(stored(shortMove()));
    const titles = [...html.matchAll(/<h3>([^<]*)<\/h3>/g)].map(([, title]) => title);
    expect(titles).toEqual([
      'Where the time went',
      'The suspension in its parts',
      'The move on one time axis',
      'Encodings by round',
      'Compression by round',
    ]);
    for (const part of ['stop the guest', 'device state', 'commit and resume'])
      expect(html).toMatch(new RegExp(`>${part}</text><text[^>]*>[\\d.]+ ms · (&lt; )?\\d+ %`));
  });

  test('is bounded, however long the move and however often its connection was lost', () => {
    const [start, ...rest] = busyGuest();
    const at = (i: number) => ({ at: 1000 + i * 20 });
    const [consultation, round] = ['consultation', 'round'].map(
      (type) => rest.find((record) => record.type === type)!,
    );
    const outage = { type: 'outage', ms: 5, reason: 'nothing was heard' } as const;
    const long = Array.from({ length: 6000 }, (_, i) => [
      { ...consultation, ...at(i), verdict: { action: i % 2 ? 'continue' : 'hold', reason: 'x' } },
      { ...round, ...at(i), round: i + 1 },
      ...(i % 4 === 0 ? [{ ...outage, ...at(i) }] : []),
    ]).flat();
    const html = renderReport([start!, ...long, rest.at(-1)!] as LedgerRecord[]);
    checkMarkup(html);
    expect(html.length).toBeLessThan(1_000_000);
    expect(html).toContain('left out');
  });

  test('of a real ledger of before hosts, link and processors were in it is as whole', async () => {
    const records = await readLedger(fileURLToPath(new URL('old-ledger.ndjson', import.meta.url)));
    const html = renderReport(records, await whatIfs(records));
    checkMarkup(html);
    expect(html).not.toMatch(/NaN|Infinity|undefined/);
    for (const title of ['Where the time went', 'The move on one time axis', 'What if'])
      expect(html).toContain(`${title}</h`);
    for (const untold of ['Hosts and link', 'processors of the agents', 'Processor time'])
      expect(html).not.toContain(untold);
    const [from, to] = suspendedIn(tellStory(records))!;
    const suspension = records.find((record) => record.type === 'suspension')!;
    expect(to - from).toBeCloseTo(suspension.agentMs, 6);
    expect(to).toBeLessThanOrEqual(suspension.at);
  });

  test('treats everything from outside as text', () => {
    const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`;
    const records = JSON.parse(JSON.stringify(busyGuest()), (key, value) =>
      typeof value === 'string' &&
      !['type', 'when', 'action', 'policy', 'outcome', 'side'].includes(key)
        ? evil
        : value,
    ) as LedgerRecord[];
    const html = renderReport(
      records.map((record) =>
        record.type === 'round' ? { ...record, levels: { [evil]: 3, off: 1 } } : record,
      ),
    );
    checkMarkup(html);
    expect(html).not.toContain('<script');
    expect(html).not.toContain('<img');
    expect(html).toContain('&lt;script&gt;');
  });

  test('stands any figures that a ledger can hold', () => {
    fc.assert(
      fc.property(randomLedger(), (records) => {
        const read = stored(records);
        checkMarkup(renderReport(read));
        expect(summaryText(summarize(read))).not.toMatch(/NaN|undefined|Infinity/);
      }),
      { numRuns: 150 },
    );
  });
});
