import { expect, test } from 'vitest';
import { listText, showText } from '../../lib/control/listing.ts';
import { aView, ended, LIMITS } from './fake-backend.ts';

test('list: a table, or a word when there is nothing', () => {
  expect(listText([])).toBe('no migrations\n');
  const other = ended('aborted', { id: '4f2a000000000002', guest: 'a-longer-name' });
  expect(listText([aView(), other])).toMatchInlineSnapshot(`
    "ID                GUEST          PEER        STATE    TIME    SENT     ROUND
    4f2a000000000001  vm1            hostb:7070  precopy  2.50 s  512 MiB  2
    4f2a000000000002  a-longer-name  hostb:7070  aborted  2.50 s  512 MiB  2
    "
  `);
});

test('show: a fact a line, those that are not known left out', () => {
  expect(showText(aView({ limits: { ...LIMITS, timeoutMs: 60_000 } }))).toMatchInlineSnapshot(`
    "id:        4f2a000000000001
    guest:     vm1 (1 GiB)
    to:        hostb:7070
    state:     precopy
    time:      2.50 s
    round:     2 (2500 of 5000 pages)
    sent:      264644 pages, 512 MiB on the wire
    rate:      100 MiB/s
    dirty:     4800 pages/s
    forecast:  suspension of 42 ms
    verdict:   continue: the remaining set still shrinks
    limits:    suspend at most 300 ms, whole move at most 1 m, prefer workload
    "
  `);
  const early = aView({
    role: 'receive',
    limits: undefined,
    estimate: undefined,
    verdict: undefined,
    wireRate: 0,
    dirtyRate: -1,
  });
  expect(showText(early)).toMatchInlineSnapshot(`
    "id:        4f2a000000000001
    guest:     vm1 (1 GiB)
    from:      hostb:7070
    state:     precopy
    time:      2.50 s
    round:     2 (2500 of 5000 pages)
    sent:      264644 pages, 512 MiB on the wire
    "
  `);
});

test('show: how it ended, and nothing from a peer that drives the terminal', () => {
  const text = showText(
    ended('failed', {
      code: 'peer-closed',
      message: 'gone\x1b[2J\nstate: completed',
      suspension: { agentMs: 41, guestMs: 38, clock: 'monotonic' },
    }),
  );
  expect(text).toContain('gone\u{fffd}[2J\u{fffd}state: completed (peer-closed)\n');
  expect(text).toContain('suspended: 38 ms\n');
});
