import { expect, test } from 'vitest';
import { LineFilter, progressBar, progressLine } from '../../lib/control/progress.ts';
import type { MigrationView } from '../../lib/control/view.ts';
import { aView, ended } from './fake-backend.ts';

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
      " 2.50 s  round 2  50 %  100 MiB/s  dirty 20 MiB  4800 pages/s  suspension ~42 ms  continue",
      " 2.50 s  completed",
    ]
  `);
});

test('the bar on a wide, an ordinary and a narrow terminal', () => {
  expect([140, 79, 60, 40, 12].map((width) => progressBar(aView(), width))).toMatchInlineSnapshot(`
    [
      "[###############...............] round 2  50 %  100 MiB/s  dirty 20 MiB  4800 pages/s  suspension ~42 ms  continue",
      "[#####....] round 2  50 %  100 MiB/s  dirty 20 MiB  suspension ~42 ms  continue",
      "[######.....] round 2  50 %  dirty 20 MiB  suspension ~42 ms",
      "[############............] round 2  50 %",
      "round 2",
    ]
  `);
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
  expect(progressBar(CONNECTING, 79)).toBe('connecting');
  expect(progressBar(ended('aborted'), 79)).toBe('aborted by policy');
});

test('no view makes the bar wider than the terminal', () => {
  const views = [CONNECTING, aView(), ended('failed'), aView({ phase: 'stop-and-copy' })];
  for (const view of views)
    for (let width = 0; width < 160; width++)
      expect(progressBar(view, width).length).toBeLessThanOrEqual(width);
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
