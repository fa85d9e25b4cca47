import { expect, test } from 'vitest';
import {
  EvacuationLog,
  evacuationLines,
  evacuationText,
  planText,
} from '../../lib/cli/evacuation-text.ts';
import { renderEvacuation } from '../../lib/evacuation/report.ts';
import { AN_EVACUATION, aView } from '../api/fake-backend.ts';

const NOW = Date.parse(AN_EVACUATION.startedAt) + 75_000;
const MOVE = aView({ guest: 'vm2' });

test('a terminal has a line for the whole and one for each guest on its way, none too long', () => {
  const long = 'a-guest-with-a-name-of-many-letters';
  const [vm1, vm2, vm3] = AN_EVACUATION.leaving;
  const leaving = [vm1!, vm2!, vm3!, { ...vm2!, name: long }];
  const view = { ...AN_EVACUATION, leaving, moving: ['vm2', 'vm3', long] };
  for (const width of [79, 40, 24]) {
    const lines = evacuationLines(view, [MOVE], width, NOW);
    expect(lines).toHaveLength(4);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(width);
  }
  const [whole, first, second] = evacuationLines(view, [MOVE], 119, NOW);
  expect(whole).toBe(
    '1 m 15 s  1 of 4 guests moved, 3 on their way, 100 MiB/s of 119.2 MiB/s'.replace(
      '100 MiB/s',
      '200 MiB/s', // two guests of this list have the same migration
    ),
  );
  expect(first).toMatch(/^vm2 {13,}\[#+\.+\] .*round 2 .*50 %/);
  expect(second).toMatch(/^vm3 +a while$/);
});

test('plain lines tell what is new, once', () => {
  const log = new EvacuationLog();
  const { leaving } = AN_EVACUATION;
  const first = log.lines(AN_EVACUATION, [MOVE], NOW);
  expect(first.join('\n')).toMatch(
    /^vm2 .*round 2.*\nvm1 completed → hostc:7070; tried again .* 800 ms\nvm2 refused by hostb:7070: no room .*\nvm3 waits: a while\n1 m 15 s {2}1 of 3 guests moved, 1 on its way, 1 waits$/,
  );
  expect(log.lines(AN_EVACUATION, [MOVE], NOW)).toEqual([]);
  const end = {
    at: AN_EVACUATION.startedAt,
    outcome: 'failed',
    code: 'x',
    message: 'why',
  } as const;
  const next = { ...AN_EVACUATION, leaving: [...leaving.slice(0, 2), { ...leaving[2]!, end }] };
  expect(log.lines(next, [MOVE], NOW)).toEqual([
    expect.stringMatching(/^vm3 failed; why \(x\)/),
    '1 m 15 s  1 of 3 guests moved, 1 not, 1 on its way',
  ]);
});

test('the summary has the outcome of each guest, its suspension beside its limit, and what was in the way', () => {
  const text = evacuationText(AN_EVACUATION, NOW);
  expect(text).toContain('1 of 3 guests moved, 1 on its way, 1 waits in 1 m 15 s; it goes on\n');
  expect(text).toMatch(
    /2 at once, 119.2 MiB\/s for all, smallest first, .*300 ms.*, .*2.00 s.* root/,
  );
  expect(text).toMatch(/\nvm1 +completed +hostc:7070 +47 ms +800 ms +2 +20.00 s\n {2}tried again/);
  expect(text).toMatch(/\nvm2 +moving +.*\n {2}refused by hostb:7070: no room \(memory-/);
  expect(text).toContain('left out: vm9: it has panicked\n');
});

test('a plan says where each guest would go, and that nothing was moved', () => {
  const refused = [{ destination: 'hostb:7070', code: 'memory-insufficient', message: 'no room' }];
  const text = planText({
    leaving: [
      { name: 'vm1', memoryBytes: 2 ** 30, destination: 'hostc:7070', refused },
      { name: 'vm2', refused: [], why: 'it is busy (guest-busy)' },
    ],
    leftOut: [],
  });
  expect(text).toMatch(/\nvm1 +1 GiB +hostc:7070\n {2}refused by hostb:7070: no room/);
  expect(text).toMatch(/\nvm2 +- +nowhere\n {2}it is busy \(guest-busy\)\n/);
  expect(text).toContain('Nothing was moved.');
});

test('the report has the same in one page; what comes from outside is text', () => {
  const leaving = [...AN_EVACUATION.leaving, { ...AN_EVACUATION.leaving[2]!, name: '<b>vm4' }];
  const outcome = 'failed';
  const html = renderEvacuation({ ...AN_EVACUATION, leaving, outcome, moving: [] }, NOW);
  expect(html).toMatch(/^<!doctype html>/);
  for (const text of ['Evacuation of hosta to hostb:7070, hostc:7070', '47 ms', '800 ms', 'vm9'])
    expect(html).toContain(text);
  expect(html).toContain('&lt;b&gt;vm4');
  expect(html).toContain('default-src &#39;none&#39;');
  expect(html).not.toMatch(/<script|<b>vm4/);
  expect(html).toContain('0 over the limit');
});
