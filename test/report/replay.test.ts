import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { type LimitsChange, type PolicyName, policyLimits } from '../../lib/precopy/limits.ts';
import type { Consult, Consulted } from '../../lib/precopy/loop.ts';
import { contractPolicy } from '../../lib/precopy/policy/contract.ts';
import { openCustomPolicy } from '../../lib/precopy/policy/custom.ts';
import { openPolicy } from '../../lib/precopy/policy/open.ts';
import { HISTORY_ROUNDS, type PrecopyStats } from '../../lib/precopy/stats.ts';
import { askedIn } from '../../lib/report/asked.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import type { ConsultationRecord, LedgerRecord } from '../../lib/report/records.ts';
import { type Replay, replay, replayText } from '../../lib/report/replay.ts';
import { type Guest, type Hand, MIB, phases, type Scenario, writes } from '../precopy/simulator.ts';
import { failedBeforeRound1 } from './fixtures.ts';
import { neverConverges, type Simulated, simulated } from './simulated-ledger.ts';

/** A busy machine fails nothing. */
const PATIENT = { consultMs: 20_000, startMs: 60_000 };

const busy = writes(400_000, 100_000);
const idle = writes(200, 300);

let dir: string;
beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-replay-'));
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

async function again(
  records: readonly LedgerRecord[],
  policy: PolicyName,
  limits: LimitsChange = {},
): Promise<Replay> {
  const { consult } = await openPolicy(policy);
  return replay(records, { policy, limits, consult });
}

/** Under its own policy and limits a ledger gives what it has recorded, word for word. */
async function expectTheSame({ text, consultations, outcome }: Simulated, consult: Consult) {
  const records = parseLedger(text);
  const asked = askedIn(records);
  expect(asked).toEqual(consultations.map(({ stats, limits }) => ({ stats, limits })));
  for (const [i, { stats, limits }] of asked.entries())
    expect(await consult(stats, limits)).toEqual({ verdict: consultations[i]!.verdict });
  const start = records[0]! as LedgerRecord & { type: 'start' };
  const replayed = await replay(records, { policy: start.policy, limits: {}, consult });
  expect(replayed.outcome).toBe(outcome === 'cancelled' ? 'undecided' : outcome);
  expect(replayed.last?.verdict).toEqual(consultations.at(-1)?.verdict);
}

function withoutHistory({ history: _, ...stats }: PrecopyStats) {
  return stats;
}

const own = async (policy: PolicyName) => (await openPolicy(policy)).consult;

describe('a ledger replayed under its own policy and limits says what it has recorded', () => {
  test('with limits and cutover changed in flight', async () => {
    const ledger = await simulated({
      guest: busy,
      costs: (at) => ({ roundTripMs: 1 + Math.sin(at), verifyMs: at / 100 }),
      events: [
        [2500, ({ steering }) => steering.change({ maxSuspendMs: 400, timeoutMs: 60_000 })],
        [6000, ({ steering }) => steering.change({ prefer: 'completion' })],
        [9100, ({ steering }) => steering.cutover()],
      ],
    });
    expect(ledger.outcome).toBe('stop-and-copy');
    expect(ledger.consultations.at(-1)!.stats).toMatchObject({ elapsedMs: 9100 });
    await expectTheSame(ledger, await own('contract'));
  });

  test('longer than the history reaches', async () => {
    const ledger = await simulated({
      ...{ guest: writes(20_000, 3000), totalPages: 4 * MIB },
      ...{ policy: 'xen', limits: { maxIters: HISTORY_ROUNDS + 20 } },
    });
    expect(ledger.consultations.at(-1)!.stats.history).toHaveLength(HISTORY_ROUNDS);
    await expectTheSame(ledger, await own('xen'));
  });

  test('with limits changed while the policy was thinking', async () => {
    let steering: Hand['steering'] | undefined;
    const contract = await own('contract');
    const consult: Consult = async (stats, limits) => {
      if (stats.when === 'in-round' && limits.timeoutMs === undefined)
        steering!.change({ timeoutMs: 9000 });
      return contract(stats, limits);
    };
    const take = (hand: Hand) => {
      steering = hand.steering;
    };
    const events = [[1, take] as const];
    const ledger = await simulated({ guest: busy, consult, events });
    const [, thinking, informed] = ledger.consultations.map(({ limits }) => limits.timeoutMs);
    expect([thinking, informed]).toEqual([undefined, 9000]);
    const lines = ledger.text.split('\n').filter((line) => line.includes('"consultation"'));
    expect(lines.filter((line) => line.includes('"limits"'))).toHaveLength(1);
    await expectTheSame(ledger, contract);
  });

  test('whatever the guest, the link, the limits and the operator are', async () => {
    await fc.assert(
      fc.asyncProperty(scenario(), async (made) => {
        const ledger = await simulated(made);
        await expectTheSame(ledger, await own(made.policy!));
      }),
      { numRuns: 60 },
    );
  }, 120_000);

  test('when the policy is a module, which is shown what it was shown then', async () => {
    const module = path.join(dir, 'shown.ts');
    fs.writeFileSync(
      module,
      `import { createHash } from 'node:crypto';
      const order = (_, value) => value?.constructor === Object
        ? Object.entries(value).filter(([, one]) => one !== undefined).sort() : value;
      export function policy(stats, limits) {
        const shown = createHash('sha1').update(JSON.stringify([stats, limits], order)).digest('hex');
        return { action: stats.iteration < 4 ? 'continue' : 'abort', reason: shown };
      }`,
    );
    const { policy } = await import(module);
    const ledger = await simulated({
      ...{ guest: busy, policy: 'custom' },
      consult: async (stats, limits) => ({ verdict: policy(stats, limits) }),
      events: [[3000, ({ steering }) => steering.change({ timeoutMs: 9000 })]],
    });
    const opened = await openCustomPolicy(module, PATIENT);
    await expectTheSame(ledger, opened.consult);
    await opened.close();
  });
});

describe('a ledger replayed under another policy or other limits', () => {
  test('says what that would really have done, whatever the guest and the link are', async () => {
    let decided = 0;
    await fc.assert(
      fc.asyncProperty(
        scenario({ change: false }),
        scenario(),
        async (made, { policy, limits }) => {
          const records = parseLedger((await simulated(made)).text);
          const given = accepted(policy!, limits!);
          const replayed = await again(records, policy!, given).catch(notTogether);
          fc.pre(replayed !== undefined);
          if (replayed.outcome === 'undecided') return;
          decided++;
          const held = accepted(policy!, replayed.last!.limits);
          const really = await simulated({ ...made, policy: policy!, limits: held });
          expect(replayed.outcome).toBe(really.outcome);
          const { stats, limits: asked, verdict } = really.consultations.at(-1)!;
          expect(replayed.last).toEqual({ stats: withoutHistory(stats), limits: asked, verdict });
        },
      ),
      { numRuns: 60 },
    );
    expect(decided).toBeGreaterThan(0);
  }, 120_000);

  test('the smallest limit is that: with it the guest moves, with less it does not', async () => {
    let found = 0;
    const smaller = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 60 });
    await fc.assert(
      fc.asyncProperty(scenario({ change: false }), smaller, async (made, shares) => {
        const limits = accepted('contract', {
          ...made.limits,
          prefer: 'workload',
          pauseBelowMs: null,
        });
        const records = parseLedger(
          (await simulated({ ...made, policy: 'contract', limits })).text,
        );
        const { smallest } = await again(records, 'contract');
        const most = smallest?.maxSuspendMs ?? 5000;
        const asked = askedIn(records);
        const moves = (maxSuspendMs: number) => {
          for (const { stats, limits } of asked) {
            const { action } = contractPolicy(stats, { ...limits, maxSuspendMs });
            if (action === 'continue') continue;
            const forecast = stats.estimate?.expected ?? Number.POSITIVE_INFINITY;
            return action === 'stop-and-copy' && forecast <= maxSuspendMs;
          }
          return false;
        };
        for (const share of shares) {
          const less = Math.floor(10 + (most - 10) * share);
          if (less < most) expect([less, moves(less)]).toEqual([less, false]);
        }
        if (smallest === undefined) return;
        found++;
        const really = await simulated({
          ...made,
          policy: 'contract',
          limits: { ...limits, maxSuspendMs: most },
        });
        expect(really.outcome).toBe('stop-and-copy');
        expect(withoutHistory(really.consultations.at(-1)!.stats)).toEqual(smallest.stats);
      }),
      { numRuns: 40 },
    );
    expect(found).toBeGreaterThan(0);
  }, 120_000);

  test('ends with the record when it has not decided by then', async () => {
    const ledger = await simulated({
      guest: busy,
      limits: { prefer: 'completion' },
      events: [[7000, (hand) => hand.cancel()]],
    });
    const replayed = await again(parseLedger(ledger.text), 'contract', { abortAboveMs: 2000 });
    expect(replayText(replayed, 'with --abort-above 2s')).toMatchInlineSnapshot(`
      "  replay      with --abort-above 2s nothing would have been decided by the end of the record, in round 7, 6.99 s after the start
        recorded    contract policy, suspend at most 300 ms, prefer completion: cancelled
        note        what the guest would have done after the recorded decision is not known: a replay ends there or earlier"
    `);
  });

  test('of a move that ended before a policy was asked has nothing to say', async () => {
    const replayed = await again(failedBeforeRound1(), 'contract', { maxSuspendMs: 800 });
    expect(replayText(replayed, 'with --max-suspend-time 800ms')).toMatchInlineSnapshot(`
      "  replay      with --max-suspend-time 800ms nothing would have been decided: the move ended before a policy was asked
        recorded    contract policy, suspend at most 300 ms, whole move at most 2 m, pause below 150 ms, abort above 2 s, prefer workload: failed
        note        what the guest would have done after the recorded decision is not known: a replay ends there or earlier"
    `);
  });

  test('limits that do not go with those recorded are refused', async () => {
    const limits = { maxSuspendMs: 1000, pauseBelowMs: 500 };
    const records = parseLedger((await simulated({ guest: idle, limits })).text);
    await expect(again(records, 'contract', { maxSuspendMs: 400 })).rejects.toMatchObject({
      code: 'bad-option',
      message: '--pause-below is 500 ms, but --max-suspend-time allows only 1 ms to 400 ms',
    });
    const alone = await again(records, 'contract', { maxSuspendMs: 400, pauseBelowMs: null });
    expect(alone.last!.limits).toMatchObject({ maxSuspendMs: 400, pauseBelowMs: undefined });
  });

  test('limits of one policy are no limits of another', async () => {
    const limits = { maxSuspendMs: 1000, pauseBelowMs: 500, timeoutMs: 60_000 };
    const records = parseLedger((await simulated({ guest: busy, limits })).text);
    const { last, outcome } = await again(records, 'xen', { maxIters: 2 });
    expect(last!.limits).toEqual({
      ...policyLimits('xen', {}),
      maxSuspendMs: 1000,
      timeoutMs: 60_000,
      maxIters: 2,
    });
    expect([outcome, last!.verdict.reason]).toEqual([
      'stop-and-copy',
      '2 rounds of at most 2 are done',
    ]);
  });

  test('a module that does not answer is told, and the contract decides', async () => {
    const module = path.join(dir, 'throws.ts');
    fs.writeFileSync(module, `export function policy() { throw new Error('no'); }`);
    const records = parseLedger((await simulated({ guest: idle })).text);
    const opened = await openCustomPolicy(module, PATIENT);
    const { consult } = opened;
    const replayed = await replay(records, { policy: 'custom', limits: {}, consult });
    await opened.close();
    expect(replayed.outcome).toBe('stop-and-copy');
    expect(replayed.problems).toEqual({
      count: askedIn(records).length,
      first: expect.stringContaining('threw "no"'),
    });
  });
});

describe('a guest that never converges', () => {
  let records: LedgerRecord[];

  beforeAll(async () => {
    records = parseLedger((await neverConverges()).text);
    expect(records.filter(({ type }) => type === 'round').length).toBeGreaterThan(400);
  }, 60_000);

  test('is given up by the contract policy after a minute', async () => {
    const replayed = await again(records, 'contract', { maxSuspendMs: 300 });
    expect(replayText(replayed, 'with --policy contract')).toMatchInlineSnapshot(`
      "  replay      with --policy contract the move would have been given up after round 20, 56.13 s after the start, forecast 2.80 s (2.66 s to 2.95 s)
        why         nothing better in 52.96 s (19 rounds); the best forecast seen, 2.80 s, is above the limit of 300 ms; a limit of 2971 ms would have been enough
        smallest    with --max-suspend-time 2818ms the guest would have been suspended after round 5, 14.31 s after the start, forecast 2.80 s (2.66 s to 2.95 s)
        recorded    xen policy, whole move at most 20 m, prefer workload, at most 10,000 rounds, stop below 50 pages: given up in round 431, 20 m 00 s after the start, forecast 2.79 s (2.66 s to 2.95 s); aborted by policy
        note        what the guest would have done after the recorded decision is not known: a replay ends there or earlier"
    `);
  });

  test('moves with a larger limit, and the smallest one is named', async () => {
    const replayed = await again(records, 'contract', { maxSuspendMs: 3000 });
    expect(replayText(replayed, 'with --max-suspend-time 3s')).toMatchInlineSnapshot(`
      "  replay      with --max-suspend-time 3s the guest would have been suspended after round 1, 3.16 s after the start, forecast 2.80 s (2.66 s to 2.95 s)
        why         forecast 2.80 s (2.66 s to 2.95 s) is within the 3.00 s allowed
        smallest    with --max-suspend-time 2818ms the guest would have been suspended after round 5, 14.31 s after the start, forecast 2.80 s (2.66 s to 2.95 s)
        recorded    xen policy, whole move at most 20 m, prefer workload, at most 10,000 rounds, stop below 50 pages: given up in round 431, 20 m 00 s after the start, forecast 2.79 s (2.66 s to 2.95 s); aborted by policy
        note        what the guest would have done after the recorded decision is not known: a replay ends there or earlier"
    `);
  });
});

/** Written down as the numbers come: what a random scenario is made of. */
function scenario({ change: changes = true } = {}): fc.Arbitrary<Scenario> {
  const guest: fc.Arbitrary<Guest> = fc.oneof(
    fc
      .tuple(fc.integer({ min: 0, max: 500_000 }), fc.integer({ min: 0, max: 120_000 }))
      .map(([rate, set]) => writes(rate, set)),
    fc
      .array(fc.tuple(fc.integer({ min: 500, max: 9000 }), fc.constantFrom(busy, idle)), {
        minLength: 2,
        maxLength: 4,
      })
      .map((list) => phases(list, true)),
  );
  const policy = fc.constantFrom<PolicyName>('contract', 'contract', 'xen');
  const ms = (min: number, max: number) => fc.option(fc.integer({ min, max }));
  const change = fc.record(
    {
      maxSuspendMs: ms(10, 2000),
      timeoutMs: ms(1000, 60_000),
      prefer: fc.constantFrom('workload' as const, 'completion' as const),
      pauseBelowMs: ms(1, 2000),
      abortAboveMs: ms(10, 4000),
      maxIters: fc.integer({ min: 1, max: 80 }),
      minRemaining: fc.integer({ min: 0, max: 5000 }),
    },
    { requiredKeys: [] },
  );
  const act = fc.oneof(
    {
      weight: changes ? 6 : 0,
      arbitrary: change.map((limits) => (hand: Hand) => changed(hand, limits)),
    },
    // Whether an order stands depends on the limits, too.
    {
      weight: changes ? 1 : 0,
      arbitrary: fc.constant((hand: Hand) => hand.steering.cutover()),
    },
    { weight: 1, arbitrary: fc.constant((hand: Hand) => hand.cancel()) },
  );
  const events = fc.array(fc.tuple(fc.integer({ min: 0, max: 20_000 }), act), { maxLength: 4 });
  const costs = fc
    .integer({ min: 0, max: 400 })
    .map((most) => (at: number) => ({ verifyMs: most * (1 + Math.sin(at / 700)) }));
  const totalPages = fc.integer({ min: 1, max: 2048 }).map((mib) => mib * MIB);
  const drainRate = fc.double({ min: 20e6, max: 2e9, noNaN: true });
  return fc
    .record({ guest, policy, limits: change, events, costs, totalPages, drainRate })
    .map((made) => ({ ...made, limits: accepted(made.policy, made.limits) }));
}

/** Limits that do not go with those recorded; anything else is a failure. */
function notTogether(error: unknown): undefined {
  expect(error).toMatchObject({ code: 'bad-option' });
}

/** An operator may ask for what does not go together; then nothing changes. */
function changed({ steering }: Hand, limits: LimitsChange): void {
  try {
    steering.change(accepted(steering.policy, limits));
  } catch (error) {
    expect(error).toBeInstanceOf(GodwitError);
  }
}

/** What the policy takes of it, field by field. */
function accepted(policy: PolicyName, limits: LimitsChange): LimitsChange {
  let taken: LimitsChange = {};
  for (const [field, value] of Object.entries(limits)) {
    const more = { ...taken, [field]: value };
    try {
      policyLimits(policy, more);
      taken = more;
    } catch {} // it does not go with the others
  }
  return taken;
}

/** Held, and read by a ledger that leaves out what is no news. */
describe('a held move', () => {
  const wall = new Date(2026, 2, 12, 1, 50).getTime();
  const cutoverAt = (ms: number): NonNullable<Scenario['events']>[number] => [
    ms,
    ({ steering }) => steering.cutover(),
  ];
  const HELD: Readonly<Record<string, Scenario>> = {
    'until it is ordered': {
      guest: idle,
      limits: { hold: 'cutover' },
      events: [cutoverAt(300_000)],
    },
    'that was busy for a while': {
      guest: phases([
        [60_000, idle],
        [240_000, busy],
        [1e9, idle],
      ]),
      limits: { hold: 'cutover' },
      events: [cutoverAt(500_000)],
    },
    'until a time, busy when it comes': {
      guest: phases([
        [590_000, idle],
        [30_000, busy],
        [1e9, idle],
      ]),
      limits: { hold: new Date(2026, 2, 12, 2, 0).toISOString() },
    },
    'by a policy of another kind': {
      ...{ guest: writes(4000, 1e6), policy: 'xen', limits: { hold: 'cutover' } },
      events: [cutoverAt(300_000)],
    },
    'that gave up': { guest: idle, limits: { hold: 'cutover', timeoutMs: 120_000 } },
  };

  test.each(Object.entries(HELD))('%s is replayed as it was', async (_, scenario) => {
    const { text, consultations, outcome } = await simulated({ wall, ...scenario });
    const records = parseLedger(text);
    const asked = askedIn(records);
    expect(asked.length).toBeLessThan(consultations.length / 4); // what is no news is left out
    // What is there is what was asked, with the history that there was.
    const all = new Map(consultations.map((one) => [keyOf(one.stats), one]));
    for (const { stats, limits } of asked) {
      const one = all.get(keyOf(stats))!;
      expect({ stats, limits }).toEqual({ stats: one.stats, limits: one.limits });
    }
    const replayed = await again(records, scenario.policy ?? 'contract');
    expect(replayed.outcome).toBe(outcome);
    expect(replayed.last?.verdict).toEqual(consultations.at(-1)!.verdict);
    expect(replayed.last?.stats).toEqual(withoutHistory(consultations.at(-1)!.stats));
  });

  test.each(Object.entries(HELD))(
    '%s, under any other limit, ends as with all that it was asked',
    async (_, scenario) => {
      const { text, consultations } = await simulated({ wall, ...scenario });
      const records = parseLedger(text);
      const full = unabridged(records, consultations);
      const policy = scenario.policy ?? 'contract';
      for (const maxSuspendMs of [15, 25, 40, 80, 150, 600]) {
        for (const hold of [undefined, null]) {
          const limits = { maxSuspendMs, ...(hold === null ? { hold } : {}) };
          const [told, wanted] = [
            await again(records, policy, limits),
            await again(full, policy, limits),
          ];
          expect(told.outcome, `${maxSuspendMs} ${hold}`).toBe(wanted.outcome);
          if (wanted.outcome === 'undecided') continue;
          const [{ stats }, other] = [told.last!, wanted.last!.stats];
          // What nothing but time decides, the next look on record does: by the ledger's clock, which
          // stands still here, that is the sync after the next round.
          const later = stats.iteration - other.iteration;
          expect(later === 0 || later === 1, `${maxSuspendMs} ${hold}`).toBe(true);
          // What the end of a round would have decided, its sync does.
          if (later === 0) expect(Math.abs(stats.elapsedMs - other.elapsedMs)).toBeLessThan(1);
        }
      }
    },
  );

  test('that had not been held would have been moved when it was ready first', async () => {
    const { text, consultations } = await simulated({ wall, ...HELD['until it is ordered']! });
    const { outcome, last } = await again(parseLedger(text), 'contract', { hold: null });
    expect(outcome).toBe('stop-and-copy');
    const ready = consultations.find(({ verdict }) => verdict.action === 'hold')!;
    expect(last!.stats.elapsedMs).toBeLessThanOrEqual(ready.stats.elapsedMs);
  });

  test('that had been held until another time, or a move that was not held, keeps to the clock of then', async () => {
    const start = (records: readonly LedgerRecord[]) =>
      Date.parse((records[0] as { time: string }).time);
    const held = parseLedger((await simulated({ wall, ...HELD['until it is ordered']! })).text);
    const at = new Date(start(held) + 100_000).toISOString();
    const { outcome, last } = await again(held, 'contract', { hold: at });
    expect(outcome).toBe('stop-and-copy');
    expect(last!.stats.elapsedMs).toBeGreaterThanOrEqual(100_000);
    // The next sync after a round is on record, whatever the clock of this machine says.
    expect(last!.stats.elapsedMs).toBeLessThan(100_000 + 61_000);
    const free = parseLedger((await simulated({ guest: idle })).text);
    expect((await again(free, 'contract', { hold: 'cutover' })).outcome).toBe('undecided');
  });
});

function keyOf({ when, elapsedMs, iteration }: ConsultationRecord['stats']): string {
  return `${when} ${elapsedMs} ${iteration}`;
}

/** A ledger that leaves nothing out. */
/** The ledger with every consultation; what else is in it stands before the same ones as there. */
function unabridged(
  records: readonly LedgerRecord[],
  consultations: readonly Consulted[],
): LedgerRecord[] {
  const left = ledgerOf(consultations);
  const full: LedgerRecord[] = [];
  const others: LedgerRecord[] = [];
  for (const record of records) {
    if (record.type !== 'consultation') others.push(record);
    else {
      const key = keyOf(record.stats);
      full.push(
        ...left.splice(
          0,
          left.findIndex(({ stats }) => keyOf(stats) === key),
        ),
      );
      full.push(...others.splice(0), left.shift()!);
    }
  }
  return [...full, ...left, ...others];
}

function ledgerOf(consultations: readonly Consulted[]): ConsultationRecord[] {
  return consultations.map(({ stats, limits, verdict }) => ({
    type: 'consultation',
    at: stats.elapsedMs,
    stats,
    limits,
    verdict,
  }));
}
