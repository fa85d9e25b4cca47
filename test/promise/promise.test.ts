import { describe, expect, test, vi } from 'vitest';
import { whyNoQemu } from '../qemu/guest/installed.ts';
import { randomOf } from '../random.ts';
import { type Asked, isOver, isUnforeseen, type Moved } from './moved.ts';
import { simulatedMove } from './moves.ts';
import { keepPromises } from './promise.ts';
import { SimulatedPromises } from './simulated.ts';
import { line, table } from './table.ts';

/* `npm run promise` in its shortest form. How long anything takes is not judged here: it is told. */

// Everything of these is seconds, but machines may be busy.
vi.setConfig({ testTimeout: 900_000 });

/** The figures of a move are those that it says, whatever they are on this machine. */
function mustBeTold(moved: Moved): void {
  const { asked, foretold, outcome, code, guestMs, suspension, enough } = moved;
  const said = line(moved);
  expect(said).not.toMatch(/NaN|undefined|Infinity/);
  expect(['completed', 'aborted'], said).toContain(outcome);
  expect(foretold, said).toBeDefined();
  // Who was suspended has a forecast, and who has moved was suspended.
  if (outcome === 'completed') {
    expect(suspension?.side).toBe('destination');
    expect(suspension?.limitMs).toBe(asked.limitMs);
    expect(guestMs, said).toBeGreaterThan(0);
    expect(enough).toBeUndefined();
  }
  if (code === 'suspension-limit') expect(suspension?.side).toBe('source');
  if (code === 'suspension-limit' || code === 'policy-abort') expect(enough, said).toBeDefined();
  if (isOver(moved)) expect(table([moved])).toMatch(/over the limit +1; worst: /);
}

test('random guests, simulated ones and of QEMU: each move is told as it was', async () => {
  const seed = Date.now() % 1_000_000;
  const all: Moved[] = [];
  const qemu = whyNoQemu() === undefined ? 2 : 0;
  await keepPromises({ simulated: 2, qemu, random: randomOf(seed) }, (moved) => all.push(moved));
  expect(all, `seed ${seed}`).toHaveLength(2 + qemu);
  for (const moved of all) mustBeTold(moved);
  expect(table(all)).not.toMatch(/NaN|undefined|Infinity/);
});

test('a guest that cannot be moved so fast stays, and what is said to be enough is tried', async () => {
  const random = simulatedMove(randomOf(1));
  const limitMs = 10; // less than waking threads on two sides takes
  const guest = { ...random.guest, memory: '64MiB', workload: 'idle' as const };
  const options = ['--max-suspend-time', `${limitMs}ms`];
  const promises = await SimulatedPromises.open();
  try {
    const moved = await promises.keep({ ...random, guest, limitMs, options, busyMachine: false });
    mustBeTold(moved);
    expect(moved).toMatchObject({ outcome: 'aborted', enough: { ms: expect.any(Number) } });
    expect(moved.enough!.ms).toBeGreaterThan(limitMs);
  } finally {
    await promises.close();
  }
});

describe('the table', () => {
  const asked: Asked = {
    kind: 'simulated',
    what: 'a guest',
    limitMs: 100,
    options: ['--max-suspend-time', '100ms'],
    busyMachine: false,
  };
  const estimate = { low: 50, expected: 80, high: 90, fixed: 40, after: 10, reserve: 20 };
  const parts = {
    suspend: 5,
    sync: 1,
    pages: 20,
    deviceState: 30,
    digest: 1,
    prepare: 13,
    commit: 9,
  };
  const kept: Moved = {
    asked,
    foretold: {
      verdict: 'yes',
      totalMs: { low: 900, expected: 1000, high: 1100 },
      suspensionMs: { low: 30, expected: 40, high: 50 },
    },
    outcome: 'completed',
    ...{ code: undefined, message: undefined, enough: undefined },
    ms: 1250,
    guestMs: 100,
    suspension: {
      ...{ type: 'suspension', at: 1200, side: 'destination', estimate, limitMs: 100, parts },
      ...{ agentMs: 100, guestMs: 100, clock: 'monotonic' },
    },
  };
  const rolledBack: Moved = {
    ...kept,
    ...{ outcome: 'aborted', code: 'suspension-limit', message: 'too long', guestMs: 103 },
    suspension: { ...kept.suspension!, side: 'source', parts: { suspend: 5 } },
    enough: { ms: 140, moved: true },
  };

  test('says who stood still for too long, roll backs included', () => {
    expect([kept, rolledBack].map(isOver)).toEqual([false, true]);
    expect(table([kept, rolledBack])).toMatch(
      /over the limit +1; worst: limit 100 ms, seen 103 ms, aborted/,
    );
  });

  test('tells a roll back that its forecast had allowed for from one that it had not', () => {
    const wide = { ...estimate, high: 300 };
    const allowedFor = { ...rolledBack, suspension: { ...rolledBack.suspension!, estimate: wide } };
    expect([rolledBack, allowedFor, kept].map(isUnforeseen)).toEqual([true, false, false]);
  });

  test('judges what was said by what came, before the move and at the decision, part by part', () => {
    expect(table([kept, rolledBack])).toMatchInlineSnapshot(`
      "simulated guests
      moves                                 2
      moved                                 1
      rolled back at the limit              1, 1 outside of their band
      given up by the policy                0
      over the limit                        1; worst: limit 100 ms, seen 103 ms, aborted
      a larger limit was enough             1 of 1
      at the decision: forecast off by      20 % in the median, 20 % at the 90th percentile (1)
        suspensions of 50 ms and more       20 % in the median, 20 % at the 90th percentile (1)
        shorter ones                        -; -
        inside the band                     0 of 1
        until Commit is said                0 ms in the median, 0 ms at the 90th percentile; half of them at least 0 ms too long
        from there on                       20 ms in the median, 20 ms at the 90th percentile; half of them more than 20 ms too short
      before the move: yes or no was right  1 of 2
        whole time off by                   20 % in the median, 20 % at the 90th percentile (1)
        inside the span                     0 of 1
        suspension off by                   60 % in the median, 60 % at the 90th percentile (1)
        inside the span                     0 of 1"
    `);
  });
});
