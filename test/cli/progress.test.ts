import { expect, test } from 'vitest';
import { inColour, LineFilter, progressBar, progressLine } from '../../lib/cli/progress.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { aView, ended } from '../api/fake-backend.ts';

const CONNECTING: MigrationView = aView({
  phase: 'connecting',
  elapsedMs: 3,
  round: 0,
  roundPages: 0,
  roundSent: 0,
  wireRate: 0,
  dirtyRate: -1,
  dirtyPages: -1,
  estimate: undefined,
  verdict: undefined,
});

test('plain lines', () => {
  expect([CONNECTING, aView(), ended('completed')].map(progressLine)).toMatchInlineSnapshot(`
    [
      "   3 ms  connecting",
      " 2.50 s  round 2  50 %  9.8 MiB left, < 1 s  100 MiB/s  dirty 20 MiB  4800 pages/s  suspension ~42 ms  continue",
      " 2.50 s  completed",
    ]
  `);
});

test('the bar on a wide, an ordinary and a narrow terminal', () => {
  expect([140, 79, 60, 40, 12].map((width) => progressBar(aView(), width))).toMatchInlineSnapshot(`
    [
      "[###############...............] 2 s  round 2  50 %  9.8 MiB left, < 1 s  100 MiB/s  dirty 20 MiB  4800 pages/s  suspension ~42 ms  continue",
      "[#########.........] 2 s  round 2  50 %  9.8 MiB left, < 1 s  suspension ~42 ms",
      "[#############............] round 2  50 %  suspension ~42 ms",
      "[############............] round 2  50 %",
      "round 2",
    ]
  `);
});

test('what is left, for how long, and a connection that is lost', () => {
  const first = aView({ round: 1, roundPages: 262_144, roundSent: 65_536, dirtyPages: -1 });
  expect(progressLine(first)).toContain('round 1  25 %  768 MiB left, 3 s  ');
  expect(progressLine(aView({ drainRate: 0 }))).toContain('  9.8 MiB left  ');
  const lost = progressBar(aView({ outageMs: 4200 }), 79);
  expect(lost).toContain('round 2  connection lost, 4 s  50 %');
  expect(lost).not.toContain('left');
  expect(progressBar(aView({ elapsedMs: 125_000 }), 140)).toContain('] 2 m 05 s  round 2');
});

test('colour changes nothing but the colour', () => {
  const views = [aView(), aView({ outageMs: 1 }), ended('failed'), aView({ hold: HOLD })];
  for (const view of views)
    for (const width of [20, 79, 140]) {
      const coloured = progressBar(view, width, inColour);
      expect(coloured).toContain('\x1b[');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is taken out
      expect(coloured.replace(/\x1b\[\d+m/g, '')).toBe(progressBar(view, width));
    }
  expect(progressBar(aView({ outageMs: 1 }), 79, inColour)).toContain('\x1b[31mconnection lost');
});

test('the bar is full when the round is sent, empty before, and never beside itself', () => {
  const bar = (sent: number, pages: number) =>
    /\[(.*)\]/.exec(progressBar(aView({ roundSent: sent, roundPages: pages }), 200))![1];
  expect(bar(0, 5000)).toBe('.'.repeat(30));
  expect(bar(5000, 5000)).toBe('#'.repeat(30));
  expect(bar(5200, 5000)).toBe('#'.repeat(30)); // pages sent again after a reconnect
  expect(bar(0, 0)).toBe('.'.repeat(30));
});

test('before the first round and after the end there is no bar', () => {
  expect(progressBar(CONNECTING, 79)).toBe('0 s  connecting');
  expect(progressBar(ended('aborted'), 79)).toBe('aborted by policy');
});

test('no view makes the bar wider than the terminal', () => {
  const views = [CONNECTING, aView(), ended('failed'), aView({ phase: 'stop-and-copy' })];
  for (const view of views)
    for (let width = 0; width < 160; width++)
      expect(progressBar(view, width).length).toBeLessThanOrEqual(width);
});

const HOLD = {
  until: 'until 2026-11-30 02:00',
  ready: true,
  ms: 120_000,
  wirePerMinute: 2.5 * 2 ** 20,
};

test('a guest that is held: until when, and what that costs', () => {
  const held = 'held until 2026-11-30 02:00, 2.5 MiB a minute';
  expect(progressLine(aView({ hold: HOLD }))).toContain(`suspension ~42 ms  ${held}`);
  expect(progressBar(aView({ hold: HOLD }), 79)).toContain(held);
  const busy = aView({ hold: { ...HOLD, ready: false, ms: 0, wirePerMinute: undefined } });
  expect(progressLine(busy)).toMatch(/ {2}held, not ready, until 2026-11-30 02:00$/);
});

test('plain lines of a guest that is held and ready: one a minute', () => {
  const filter = new LineFilter();
  const at = (elapsedMs: number, round: number) =>
    filter.wants(aView({ elapsedMs, round, hold: HOLD }));
  expect([at(1000, 3), at(2500, 3), at(30_000, 4), at(61_000, 4)]).toEqual([
    ...[true, false, false, true],
  ]);
});

test('plain lines: one a second, and each round, phase and verdict', () => {
  const filter = new LineFilter();
  const at = (elapsedMs: number, over: Partial<MigrationView> = {}) =>
    filter.wants(aView({ elapsedMs, ...over }));
  expect(at(1000)).toBe(true);
  expect(at(1300)).toBe(false);
  expect(at(1999)).toBe(false);
  expect(at(2000)).toBe(true);
  expect(at(2200, { round: 3 })).toBe(true);
  expect(at(2250, { round: 4 })).toBe(false); // rounds of a few milliseconds do not flood
  expect(at(2300, { round: 4 })).toBe(true);
  const verdict = { action: 'stop-and-copy', reason: 'it fits' } as const;
  expect(at(2500, { round: 4, verdict })).toBe(true);
  expect(at(2501, { round: 4, verdict, phase: 'stop-and-copy' })).toBe(true);
  expect(at(2502, { round: 4, verdict, phase: 'ended' })).toBe(true);
});

test('plain lines: an outcome is told once, whatever phases follow it, and another one again', () => {
  const filter = new LineFilter();
  const at = (elapsedMs: number, over: Partial<MigrationView>) =>
    filter.wants(aView({ elapsedMs, ...over }));
  expect(at(1000, { phase: 'precopy' })).toBe(true);
  const waits = { phase: 'handover', outcome: 'needs-resolve' } as const;
  expect([at(1001, waits), at(9000, waits)]).toEqual([true, false]);
  expect(at(9001, { phase: 'handover', outcome: 'completed' })).toBe(true);
  expect(at(9002, { phase: 'recovery', outcome: 'completed' })).toBe(false);
  expect(at(9003, { phase: 'ended', outcome: 'completed' })).toBe(false);
});
