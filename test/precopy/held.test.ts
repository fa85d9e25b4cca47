import { describe, expect, test } from 'vitest';
import { MIB, migrate, phases, type Run, type Scenario, transcript, writes } from './simulator.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const idle = writes(200, 300);
const hotSet = writes(5000, 5000);
const busy = writes(400_000, 100_000);

/** By the clock of this host, whatever its zone. */
const wall = new Date(2026, 2, 12, 1, 50).getTime();
const until = (hour: number, minute: number) => new Date(2026, 2, 12, hour, minute).toISOString();

const held = (scenario: Scenario) =>
  migrate({ wall, ...scenario, limits: { hold: 'cutover', ...scenario.limits } });
const cutoverAt = (ms: number) =>
  [ms, ({ steering }) => steering.cutover()] as const satisfies Event;
type Event = NonNullable<Scenario['events']>[number];

/** What was sent after the guest was ready for the first time, bytes. */
function cost({ consultations }: Run): number {
  const ready = consultations.find(({ verdict }) => verdict.action === 'hold')!;
  return consultations.at(-1)!.stats.wireBytes - ready.stats.wireBytes;
}

describe('a held guest', () => {
  test('is ready after its rounds, and runs until the cutover is ordered', async () => {
    const run = await held({ guest: idle, events: [cutoverAt(10 * SECOND)] });
    expect(run.outcome).toBe('stop-and-copy');
    expect(run.result.stats.elapsedMs).toBeGreaterThanOrEqual(10 * SECOND);
    expect(run.result.stats.elapsedMs).toBeLessThan(10 * SECOND + 10);
    expect(run.suspensionMs).toBeLessThan(50);
    expect(run.rounds).toHaveLength(1);
    expect(run.reason).toMatch(/^cutover requested; forecast/);
    const actions = run.consultations.map(({ verdict }) => verdict.action);
    expect(actions.lastIndexOf('continue')).toBeLessThan(actions.indexOf('hold'));
  });

  test('is looked at once a second, and the forecast is alive in between', async () => {
    const run = await held({ guest: idle, events: [cutoverAt(30 * SECOND)] });
    expect(run.engine.looks).toBeGreaterThan(25);
    expect(run.engine.looks).toBeLessThan(32);
    const rests = run.consultations.filter(({ stats }) => stats.when === 'at-rest');
    expect(rests.length).toBeGreaterThan(100);
    for (const { stats } of rests) expect(stats.estimate!.expected).toBeLessThan(300);
  });

  test('costs its hot set once a minute, however long it is held', async () => {
    const minutes = 20;
    const run = await held({ guest: hotSet, events: [cutoverAt(minutes * MINUTE)] });
    expect(run.outcome).toBe('stop-and-copy');
    expect(cost(run)).toBeGreaterThan(0); // the drain rate is measured
    expect(cost(run) / minutes).toBeLessThan(5000 * 4096 * 1.1);
    expect(run.suspensionMs).toBeLessThan(150);
  });

  test('that writes ever more pages is sent only what keeps it ready', async () => {
    const guest = writes(4000, 1e6);
    const run = await held({ guest, events: [cutoverAt(5 * MINUTE)] });
    expect(run.outcome).toBe('stop-and-copy');
    expect(run.suspensionMs).toBeLessThan(300);
    expect(cost(run)).toBeLessThan(4000 * 4096 * 300);
    const forecasts = run.consultations.flatMap(({ stats }) =>
      stats.when === 'before-round' && stats.elapsedMs > 5 * SECOND ? [stats.estimate!.high] : [],
    );
    expect(Math.max(...forecasts)).toBeLessThan(300);
  });

  test('that becomes busy costs a round a minute, and is ready again when it becomes quiet', async () => {
    const guest = phases([
      [10 * SECOND, idle],
      [5 * MINUTE, busy],
      [1e9, idle],
    ]);
    const run = await held({ guest, events: [cutoverAt(8 * MINUTE)] });
    const at = (ms: number) => run.consultations.findLast(({ stats }) => stats.elapsedMs <= ms)!;
    expect(at(3 * MINUTE).verdict.reason).toMatch(/^too busy, forecast /);
    expect(at(3 * MINUTE).stats.estimate!.expected).toBeGreaterThan(300);
    expect(at(6 * MINUTE).verdict.reason).toMatch(/^ready, forecast /);
    const busyRounds = run.rounds.filter(({ dirtyPages }) => dirtyPages > 50_000);
    expect(busyRounds.length).toBeLessThan(12);
    expect([run.outcome, run.lapses]).toEqual(['stop-and-copy', []]);
    expect(run.suspensionMs).toBeLessThan(50);
  });

  test('is not moved after --timeout, but given up, whatever is preferred', async () => {
    for (const prefer of ['workload', 'completion'] as const) {
      const run = await held({ guest: idle, limits: { timeoutMs: MINUTE, prefer } });
      expect([run.outcome, Math.round(run.atMs / SECOND)]).toEqual(['abort', 60]);
      expect(run.reason).toMatch(/--timeout passed while the guest was held until a cutover/);
    }
  });

  test('is cancelled at rest at once', async () => {
    const run = held({ guest: idle, events: [[5000, (hand) => hand.cancel()]] });
    await expect(run).rejects.toMatchObject({ code: 'cancelled' });
  });

  test('that is not to be held any more is moved', async () => {
    const release: Event = [20 * SECOND, ({ steering }) => steering.change({ hold: null })];
    const run = await held({ guest: idle, events: [release] });
    expect(run.outcome).toBe('stop-and-copy');
    expect(run.atMs - 20 * SECOND).toBeLessThan(50);
  });

  test('a migration can be held while it is under way', async () => {
    const hold: Event = [500, ({ steering }) => steering.change({ hold: 'cutover' })];
    const run = await migrate({ guest: idle, events: [hold, cutoverAt(20 * SECOND)] });
    expect(Math.round(run.atMs / SECOND)).toBe(20);
  });

  test('by the xen policy, too', async () => {
    for (const guest of [idle, busy]) {
      const run = await held({ guest, policy: 'xen', events: [cutoverAt(MINUTE)] });
      expect([run.outcome, Math.round(run.result.stats.elapsedMs / SECOND)]).toEqual([
        'stop-and-copy',
        60,
      ]);
      expect(run.rounds.length).toBeLessThan(10);
    }
  });

  test('waits without a connection for as long as it takes, and loses nothing by an order', async () => {
    const run = await held({
      guest: idle,
      events: [
        [5 * SECOND, ({ engine }) => engine.cut(true)],
        [6 * SECOND, ({ steering }) => steering.cutover()],
        [20 * SECOND, ({ engine }) => engine.cut(false)],
      ],
    });
    expect(run.outcome).toBe('stop-and-copy');
    expect(run.atMs).toBeGreaterThan(20 * SECOND);
    expect(run.atMs).toBeLessThan(21 * SECOND);
  });
});

describe('a time', () => {
  test('cuts over by itself then', async () => {
    const run = await held({ guest: hotSet, limits: { hold: until(2, 0) } });
    expect(run.outcome).toBe('stop-and-copy');
    expect(run.atMs).toBeGreaterThanOrEqual(10 * MINUTE);
    expect(run.atMs).toBeLessThan(10 * MINUTE + 2 * SECOND);
    expect(run.suspensionMs).toBeLessThan(300);
    const before = run.consultations.filter(({ stats }) => stats.elapsedMs < 10 * MINUTE);
    for (const { verdict } of before) expect(verdict.action).not.toBe('stop-and-copy');
  });

  test('of a busy guest: it is waited for as long as at the beginning, then given up', async () => {
    const run = await held({ guest: busy, limits: { hold: until(2, 0) } });
    expect(run.outcome).toBe('abort');
    expect(run.atMs).toBeGreaterThan(10 * MINUTE + 10 * SECOND);
    expect(run.atMs).toBeLessThan(11 * MINUTE);
  });

  test('may be changed while it is waited for', async () => {
    const sooner: Event = [MINUTE, ({ steering }) => steering.change({ hold: until(1, 55) })];
    const run = await held({ guest: idle, limits: { hold: until(9, 0) }, events: [sooner] });
    expect(Math.floor(run.atMs / MINUTE)).toBe(5);
  });
});

describe('a window', () => {
  const limits = { hold: '02:00-04:00' };

  test('cuts over as soon as it is open and the forecast fits', async () => {
    const run = await held({ guest: idle, limits });
    expect([run.outcome, Math.floor(run.atMs / SECOND)]).toEqual(['stop-and-copy', 600]);
  });

  test('waits within it for a quiet moment instead of giving up', async () => {
    const guest = phases([
      [15 * MINUTE, busy],
      [1e9, idle],
    ]);
    const run = await held({ guest, limits });
    expect(run.outcome).toBe('stop-and-copy');
    expect(Math.floor(run.atMs / MINUTE)).toBeOneOf([15, 16]);
    expect(run.suspensionMs).toBeLessThan(50);
  });

  test('that ends without a moment that fits: held until the next one', async () => {
    const run = await held({ guest: busy, limits: { hold: '01:51-01:55', timeoutMs: 7 * MINUTE } });
    const reasonAt = (ms: number) =>
      run.consultations.findLast(({ stats }) => stats.elapsedMs <= ms)!.verdict.reason;
    expect(reasonAt(4 * MINUTE)).toMatch(/waiting for a better moment, and the window is open for/);
    expect(reasonAt(6 * MINUTE)).toMatch(/^too busy, .*; held for another 23 h 55 m$/);
    expect(run.reason).toMatch(/--timeout passed while the guest was held for another 23 h 54 m/);
  });
});

describe('a safe cutover', () => {
  test('before the first forecast waits for it', async () => {
    const run = await migrate({ guest: idle, events: [cutoverAt(300)] });
    expect([run.outcome, run.result.stats.when]).toEqual(['stop-and-copy', 'before-round']);
    expect(run.reason).toMatch(/^cutover requested; forecast/);
    expect(transcript(run)).toMatch(/round 1 done/);
  });

  test('that still waits is taken back by a hold', async () => {
    const hold: Event = [600, ({ steering }) => steering.change({ hold: 'cutover' })];
    const events = [cutoverAt(300), hold, cutoverAt(MINUTE)];
    const run = await migrate({ guest: idle, events });
    expect(Math.round(run.atMs / MINUTE)).toBe(1);
  });

  test('forced before the first forecast does not', async () => {
    const force: Event = [300, ({ steering }) => steering.cutover(true)];
    const run = await migrate({ guest: idle, events: [force] });
    expect([run.outcome, run.atMs < 400]).toEqual(['stop-and-copy', true]);
    expect(run.reason).toBe('cutover forced; no forecast yet');
  });

  test('waits while rounds shorten the forecast', async () => {
    const guest = phases([
      [1300, busy],
      [1e9, idle],
    ]);
    const run = await held({ guest, events: [cutoverAt(300)] });
    expect([run.outcome, run.rounds.length, run.lapses]).toEqual(['stop-and-copy', 2, []]);
  });

  test('that finds a longer forecast than when it was accepted does not stand: the guest is held on', async () => {
    const guest = phases([
      [20 * SECOND, idle],
      [MINUTE, busy],
      [1e9, idle],
    ]);
    const events = [cutoverAt(20_900), cutoverAt(3 * MINUTE)];
    const run = await held({ guest, events });
    expect(run.lapses).toHaveLength(1);
    expect(run.lapses[0]).toMatch(
      /^the forecast is .* and takes a limit of 1.\d\d s, not 300 ms: it would be rolled back$/,
    );
    expect(Math.round(run.atMs / MINUTE)).toBe(3);
    expect(run.suspensionMs).toBeLessThan(50);
  });

  test('of the xen policy with a limit, too', async () => {
    const limits = { maxSuspendMs: 300, maxIters: 100 };
    const run = await migrate({ guest: busy, policy: 'xen', limits, events: [cutoverAt(3000)] });
    expect(run.lapses).toHaveLength(1);
  });
});

test('a guest of one MiB that writes nothing', async () => {
  const run = await held({ guest: () => 0, totalPages: MIB, events: [cutoverAt(MINUTE)] });
  expect([run.outcome, run.rounds.length]).toEqual(['stop-and-copy', 1]);
});
