import { expect, test } from 'vitest';
import { guestsText, listText, showText } from '../../lib/cli/listing.ts';
import { aView, ended, LIMITS } from '../api/fake-backend.ts';

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
      suspension: { agentMs: 41, guestMs: 38, forecastMs: 40, limitMs: 300, clock: 'monotonic' },
    }),
  );
  expect(text).toContain('gone\u{fffd}[2J\u{fffd}state: completed (peer-closed)\n');
  expect(text).toContain('suspended: 38 ms\n');
});

/** A destination whose copy a person's decision at the source has stopped: it had completed before. */
const STOPPED = {
  id: '4f2a000000000003',
  role: 'receive',
  phase: 'handover',
  ownership: 'superseded',
  outcome: 'completed',
  decision: 'ann decided --keep-here at the source, 2026-01-02 03:04 UTC',
  limits: undefined,
} as const;

test('a copy that a decision has stopped is not said to run, nor to be completed', () => {
  const list = listText([aView(STOPPED)]);
  const show = showText(aView(STOPPED));
  for (const text of [list, show]) {
    expect(text).toContain('superseded');
    expect(text).toContain(
      'the copy here is stopped: a person decided at the source that the guest',
    );
    expect(text).toContain(STOPPED.decision);
    expect(text).not.toContain('completed');
    expect(text).not.toContain('the guest runs here');
  }
});

test('list: below its line what a migration waits for, where the guest is, who has decided', () => {
  const over = { role: 'receive', phase: 'ended', outcome: 'completed' } as const;
  const views = [
    aView({ ...over, ownership: 'running' }),
    aView({ ...over, ownership: 'running', guestState: 'has panicked' }),
    aView({ phase: 'recovery', ownership: 'released', waitsFor: 'hostb:7070: \x1b[2Jno route' }),
    aView(STOPPED),
  ];
  expect(listText(views)).toMatchInlineSnapshot(`
    "ID                GUEST  PEER        STATE       TIME    SENT     ROUND
    4f2a000000000001  vm1    hostb:7070  completed   2.50 s  512 MiB  2
    4f2a000000000001  vm1    hostb:7070  completed   2.50 s  512 MiB  2
      the guest has panicked here
    4f2a000000000001  vm1    hostb:7070  recovery    2.50 s  512 MiB  2
      the guest runs at its destination; the copy here goes
      waits for hostb:7070: �[2Jno route
    4f2a000000000003  vm1    hostb:7070  superseded  2.50 s  512 MiB  2
      the copy here is stopped: a person decided at the source that the guest runs there
      ann decided --keep-here at the source, 2026-01-02 03:04 UTC
    "
  `);
});

test('show and list: a guest that is held', () => {
  const hold = { until: 'until 2026-11-30 02:00', ready: true, ms: 4_800_000 };
  const view = aView({ hold: { ...hold, wirePerMinute: 2.5 * 2 ** 20 } });
  expect(listText([view])).toMatch(/ held +2\.50 s /);
  expect(showText(view)).toContain('state:     held\n');
  expect(showText(view)).toContain(
    'held:      until 2026-11-30 02:00, ready; 1 h 20 m so far, 2.5 MiB a minute on the wire\n',
  );
  const limits = { ...LIMITS, hold: '02:00-04:00' };
  expect(showText(aView({ limits }))).toMatch(/^limits: .*, hold outside of 02:00-04:00$/m);
});

test('show: what the state means for the guest', () => {
  const view = aView({ phase: 'ended', outcome: 'failed', ownership: 'aborted' });
  expect(showText(view)).toContain('means:     the guest runs here\n');
  const stands = { ...view, guestState: 'is stopped by an I/O error' };
  expect(showText(stands)).toContain('means:     the guest is stopped by an I/O error here\n');
});

test('guests: one that cannot be looked at says why, and the others are listed', () => {
  expect(guestsText([])).toBe('no guests\n');
  expect(
    guestsText([
      { name: 'vm1', hypervisor: 'simulated', state: 'running', memoryBytes: 2 ** 30 },
      { name: 'stuck', hypervisor: 'qemu', trouble: 'QEMU has not\nanswered within 1.00 s' },
      { name: 'vm3', hypervisor: 'qemu', state: 'io-error', memoryBytes: 2 ** 31 },
    ]),
  ).toMatchInlineSnapshot(`
    "GUEST  HYPERVISOR  MEMORY  STATE
    vm1    simulated   1 GiB   runs
    stuck  qemu        -       QEMU has not�answered within 1.00 s
    vm3    qemu        2 GiB   is stopped by an I/O error
    "
  `);
});
