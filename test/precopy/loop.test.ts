import { describe, expect, test } from 'vitest';
import { policyLimits } from '../../lib/precopy/limits.ts';
import { type Consult, precopy } from '../../lib/precopy/loop.ts';
import {
  HISTORY_ROUNDS,
  type PrecopyStats,
  UNKNOWN,
  type Verdict,
} from '../../lib/precopy/stats.ts';
import { Steering } from '../../lib/precopy/steering.ts';
import {
  FakeClock,
  type Hand,
  MIB,
  migrate,
  type Run,
  SimulatedEngine,
  writes,
} from './simulator.ts';

const busy = writes(400_000, 100_000);

/** A policy that goes on until it is shown what it waits for. */
function until(seen: (stats: PrecopyStats) => boolean, action: Verdict['action']): Consult {
  return async (stats) => ({
    verdict: seen(stats) ? { action, reason: 'seen' } : { action: 'continue', reason: 'not yet' },
  });
}

const never = until(() => false, 'abort');
const asked = ({ consultations }: Run) => consultations.map(({ stats }) => stats);

describe('consultations', () => {
  test('come before the first round, after each round, and before the next, as in Xen', async () => {
    const run = await migrate({
      guest: writes(1000, 1000),
      drainRate: 4e9,
      consult: until((stats) => stats.when === 'before-round' && stats.iteration === 2, 'abort'),
    });
    const story = asked(run).map((s) => `${s.when} ${s.iteration}: ${s.dirtyCount} dirty`);
    expect(story).toEqual([
      'before-round 0: 131072 dirty',
      'after-round 1: -1 dirty',
      'before-round 1: 126 dirty',
      'after-round 2: -1 dirty',
      'before-round 2: 20 dirty',
    ]);
    expect(asked(run)[0]).toMatchObject({ elapsedMs: 0, totalWritten: 0, estimate: undefined });
  });

  test('come at least every 250 ms within a round, and know what is known by then', async () => {
    const run = await migrate({ guest: busy, consult: until((s) => s.iteration === 2, 'abort') });
    const times = asked(run).map((stats) => stats.elapsedMs);
    const gaps = times.slice(1).map((at, i) => at - times[i]!);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(250);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0);
    const inFirst = asked(run).filter((s) => s.when === 'in-round' && s.iteration === 0);
    expect(inFirst.length).toBe(6);
    for (const stats of inFirst) {
      expect(stats).toMatchObject({ dirtyCount: UNKNOWN, dirtyRate: UNKNOWN, estimate: undefined });
      expect(Math.abs(stats.drainRate - 400e6)).toBeLessThan(1e5);
    }
    const inSecond = asked(run).filter((s) => s.when === 'in-round' && s.iteration === 1);
    expect(inSecond.length).toBeGreaterThan(3);
    for (const { estimate } of inSecond) expect(estimate!.expected).toBeGreaterThan(700);
  });

  test('are frozen values, history included, which reaches back a fixed number of rounds', async () => {
    const run = await migrate({
      guest: writes(100, 100),
      totalPages: MIB,
      consult: until((stats) => stats.iteration === HISTORY_ROUNDS + 10, 'abort'),
    });
    const { history } = asked(run).at(-1)!;
    expect(history.length).toBe(HISTORY_ROUNDS);
    expect(history.at(-1)!.round).toBe(HISTORY_ROUNDS + 9);
    for (const value of [asked(run)[0], history, history[0]]) {
      expect(Object.isFrozen(value)).toBe(true);
    }
  });

  test('a guest with next to nothing dirty is not synced without a rest', async () => {
    const consult = until((stats) => stats.iteration === 50, 'abort');
    const run = await migrate({ guest: () => 0, totalPages: MIB, consult });
    expect(run.atMs).toBeGreaterThanOrEqual(50 * 19);
  });
});

describe('a verdict within a round acts at once', () => {
  const atHalf = (stats: PrecopyStats) => stats.when === 'in-round' && stats.elapsedMs > 500;

  test('stop-and-copy: nothing is in flight, what was not sent is pending', async () => {
    const consult = until(atHalf, 'stop-and-copy');
    const run = await migrate({ guest: () => 0, consult });
    expect(run.outcome).toBe('stop-and-copy');
    expect(run.engine.idle).toBe(true);
    expect(run.atMs).toBeLessThan(800);
    const [report] = run.rounds;
    expect(report).toMatchObject({ round: 1, cutShort: true, dirtiedPages: UNKNOWN });
    expect(report!.sentPages + run.engine.pending).toBe(512 * MIB);
  });

  test('abort: it does not wait for what is in flight', async () => {
    const run = await migrate({ guest: busy, consult: until(atHalf, 'abort') });
    expect(run.outcome).toBe('abort');
    expect(run.engine.interrupts).toBe(1);
    expect(run.result.stats.elapsedMs).toBe(run.atMs);
  });
});

describe('the operator', () => {
  const first = (act: (hand: Hand) => void) => [[610, act]] as const;

  test('a change of the limits or a cutover leads to a consultation at once', async () => {
    const seen: number[] = [];
    const consult: Consult = async (stats, limits) => {
      if (limits.timeoutMs === 9000 || stats.cutoverRequested) seen.push(stats.elapsedMs);
      return {
        verdict: stats.cutoverRequested
          ? { action: 'stop-and-copy', reason: 'ordered' }
          : { action: 'continue', reason: 'go on' },
      };
    };
    const change = (hand: Hand) => hand.steering.change({ timeoutMs: 9000 });
    const cutover = (hand: Hand) => hand.steering.cutover();
    await migrate({
      guest: busy,
      consult,
      events: [
        [610, change],
        [650, cutover],
      ],
    });
    expect(seen).toEqual([610, 650]);
  });

  test('a change made while the policy is thinking is not lost', async () => {
    const seen: (number | undefined)[] = [];
    let hand: Hand | undefined;
    const consult: Consult = async (stats, limits) => {
      seen.push(limits.timeoutMs);
      if (stats.when === 'in-round' && seen.length === 3)
        hand!.steering.change({ timeoutMs: 9000 });
      const action = seen.length === 4 ? 'abort' : 'continue';
      return { verdict: { action, reason: `at ${stats.elapsedMs}` } };
    };
    const run = await migrate({
      guest: busy,
      consult,
      events: [
        [
          1,
          (h) => {
            hand = h;
          },
        ],
      ],
    });
    expect(seen).toEqual([undefined, undefined, undefined, 9000]);
    const [third, fourth] = asked(run).slice(-2);
    expect(fourth!.elapsedMs).toBe(third!.elapsedMs);
  });

  test('a cancel ends a round at once', async () => {
    const run = migrate({ guest: busy, consult: never, events: first((hand) => hand.cancel()) });
    await expect(run).rejects.toMatchObject({ code: 'cancelled' });
  });

  test('a cancel is heard while the policy or the sync hangs', async () => {
    for (const hang of [0, 9]) {
      let count = 0;
      const consult: Consult = (stats, limits) =>
        count++ < hang ? never(stats, limits) : new Promise(() => {});
      const run = migrate({ guest: busy, consult, events: first((hand) => hand.cancel()) });
      await expect(run).rejects.toMatchObject({ code: 'cancelled' });
    }
  });
});

test('rounds are reported when the sync has completed them', async () => {
  const consult = until((stats) => stats.iteration === 2, 'stop-and-copy');
  const { rounds } = await migrate({ guest: writes(20_000, 1e6), totalPages: 100 * MIB, consult });
  expect(rounds.map(({ round, cutShort }) => [round, cutShort])).toEqual([
    [1, false],
    [2, false],
  ]);
  const [first, second] = rounds;
  expect(first).toMatchObject({ dirtyPages: 25_600, sentPages: 25_600, wireBytes: 25_600 * 4096 });
  expect(first!.ms).toBeCloseTo(262.3, 0);
  expect(second!.dirtyPages).toBe(first!.dirtiedPages);
  expect(first!.dirtiedPages).toBeCloseTo(5240, -2);
  expect(second!.dirtiedPages).toBe(UNKNOWN); // the verdict came before the next sync
});

test('an engine that fails ends the loop with its own error, and leaves no timer behind', async () => {
  const clock = new FakeClock();
  const engine = new SimulatedEngine(clock, busy, 512 * MIB, 400e6);
  engine.send = async () => {
    await clock.sleep(300);
    throw new Error('the link is down');
  };
  const failing = precopy({
    engine,
    totalPages: 512 * MIB,
    consult: never,
    steering: new Steering('contract', policyLimits('contract', {})),
    clock,
    startedMs: 0,
    costs: () => ({
      suspendMs: 0,
      journalMs: 0,
      digestMs: 0,
      roundTripMs: 0,
      deviceStateBytes: 0,
      loadMs: 0,
      verifyMs: 0,
      resumeMs: 0,
      afterMs: 0,
      reserveMs: 0,
      leastMs: 0,
    }),
    cancel: new AbortController().signal,
    onConsultation: () => {},
    onRound: () => {},
    onLapse: () => {},
  });
  await expect(clock.run(failing)).rejects.toThrow('the link is down');
  expect([clock.now(), clock.timers]).toEqual([300, 0]);
});
