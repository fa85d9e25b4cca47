import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chosen, plan } from '../../lib/evacuation/plan.ts';
import {
  type Attempt,
  destinationFor,
  due,
  limitOf,
  settled,
  worstOf,
} from '../../lib/evacuation/queue.ts';
import type { EvacuationRecord, Leaving, Order } from '../../lib/evacuation/view.ts';
import type { GuestView } from '../../lib/migration/view.ts';
import { A_PROFILE } from '../api/fake-backend.ts';

const DESTINATIONS = ['b:1', 'c:1', 'd:1'];
const NEW = { tries: 0, troubles: 0, detours: 0, refused: [], raisedMs: [] };
const AT = '2026-01-02T03:04:05.000Z';

function evacuationOf(
  leaving: readonly Leaving[],
  over: Partial<EvacuationRecord> = {},
): EvacuationRecord {
  return {
    ...{ id: 'e', source: 'a', startedAt: AT, destinations: DESTINATIONS, parallel: 2 },
    ...{ order: 'name', cancelled: false, leaving, leftOut: [] },
    move: { policy: 'contract', limits: { maxSuspendMs: 300 }, compression: 'auto', verify: false },
    ...over,
  };
}

const failed = (code: string, destination = 'b:1'): Attempt => {
  return { destination, outcome: 'failed', code, message: `it is ${code}` };
};
const settle = (guest: Leaving, attempt: Attempt, others = false, over = {}) =>
  settled(guest, attempt, evacuationOf([guest], over), others, AT);

test('a destination that refuses is not asked again, and the next one is', () => {
  let guest: Leaving = { name: 'vm1', ...NEW };
  for (const destination of DESTINATIONS) {
    expect(destinationFor(guest, DESTINATIONS)).toBe(destination);
    guest = settle(guest, failed('memory-insufficient', destination)).guest;
  }
  expect(guest.end).toMatchObject({ outcome: 'failed', code: 'memory-insufficient' });
  expect(guest.refused.map(({ destination }) => destination)).toEqual(DESTINATIONS);
});

test('what is of the moment is tried elsewhere, after growing pauses, and not for ever', () => {
  let guest: Leaving = { name: 'vm1', ...NEW };
  const pauses: number[] = [];
  const asked: unknown[] = [];
  while (guest.end === undefined) {
    asked.push(destinationFor(guest, DESTINATIONS));
    const next = settle(guest, failed('connect-refused'));
    if (next.guest.end === undefined) pauses.push(next.pauseMs);
    guest = next.guest;
  }
  expect(asked).toEqual(['b:1', 'c:1', 'd:1', 'b:1', 'c:1', 'd:1']);
  // A destination may keep what a killed agent had begun for as long as the agent might come back.
  expect(pauses.reduce((sum, pause) => sum + pause)).toBeGreaterThan(60_000);
  expect(pauses).toEqual(pauses.toSorted((a, b) => a - b));
  expect(guest.refused).toEqual([]);
});

test('a destination that has too many guests of ours is waited for', () => {
  let guest: Leaving = { name: 'vm1', ...NEW };
  for (let i = 0; i < 100; i++) {
    const next = settle(guest, failed('too-many'), true);
    expect([next.guest.end, next.pauseMs > 0]).toEqual([undefined, true]);
    guest = next.guest;
  }
  for (let i = 0; i < 5; i++) guest = settle(guest, failed('too-many'), false).guest;
  expect(settle(guest, failed('too-many'), false).guest.end?.outcome).toBe('failed');
});

test('what is wrong with the guest or with this host is asked of nobody else', () => {
  for (const attempt of [
    failed('guest-died'),
    { ...failed('hook-failed'), destination: undefined },
  ])
    expect(settle({ name: 'vm1', ...NEW }, attempt).guest.end?.outcome).toBe('failed');
});

test('another limit is tried only where that was allowed, and only up to there', () => {
  const aborted = (enoughMs: number | undefined): Attempt => {
    return { destination: 'b:1', outcome: 'aborted', code: 'policy-abort', enoughMs };
  };
  const guest: Leaving = { name: 'vm1', ...NEW };
  expect(settle(guest, aborted(800)).guest.end?.outcome).toBe('aborted');
  const allowed = { retryUpToMs: 1000 };
  const again = settle(guest, aborted(800), false, allowed).guest;
  expect([again.end, again.raisedMs]).toEqual([undefined, [800]]);
  expect(limitOf(again, evacuationOf([again]))).toBe(800);
  for (const enoughMs of [undefined, 300, 1001])
    expect(settle(guest, aborted(enoughMs), false, allowed).guest.end?.outcome).toBe('aborted');
  expect(settle(again, aborted(800), false, allowed).guest.end?.outcome).toBe('aborted');
  const often = { ...guest, raisedMs: [400, 500, 600] };
  expect(settle(often, aborted(700), false, allowed).guest.end?.outcome).toBe('aborted');
});

test('the exit is by the worst outcome', () => {
  const ended = (outcome: Attempt['outcome']) => ({
    ...NEW,
    name: outcome,
    end: { at: AT, outcome },
  });
  const all = ['completed', 'cancelled', 'aborted', 'failed', 'needs-resolve'] as const;
  for (const [i, worst] of all.entries())
    expect(
      worstOf({
        leaving: all
          .slice(0, i + 1)
          .toReversed()
          .map(ended),
      }),
    ).toBe(worst);
  expect(worstOf({ leaving: [ended('failed'), { name: 'vm1', ...NEW }] })).toBeUndefined();
});

const CODES = ['memory-insufficient', 'too-many', 'connect-refused', 'guest-busy', 'guest-died'];
const ATTEMPTS: fc.Arbitrary<(destination: string) => Attempt> = fc.oneof(
  fc.constant((destination: string): Attempt => ({ destination, outcome: 'completed' })),
  fc.constantFrom(...CODES).map((code) => (destination: string) => failed(code, destination)),
  fc.integer({ min: 1, max: 5000 }).map((enoughMs) => (destination: string): Attempt => {
    return { destination, outcome: 'aborted', code: 'suspension-limit', enoughMs };
  }),
);

test('whatever happens, every guest comes to an end, none is moved twice at once, none too many', () => {
  const schedule = fc.record({
    guests: fc.integer({ min: 1, max: 12 }),
    parallel: fc.integer({ min: 1, max: 5 }),
    ends: fc.infiniteStream(fc.tuple(fc.nat(), ATTEMPTS)),
  });
  fc.assert(
    fc.property(schedule, ({ guests, parallel, ends }) => {
      const leaving = Array.from({ length: guests }, (_, i) => ({ ...NEW, name: `vm${i}` }));
      let record = evacuationOf(leaving, { parallel, retryUpToMs: 4000 });
      const busy = new Set<string>();
      const began = new Map<string, string[]>();
      for (let step = 0; worstOf(record) === undefined; step++) {
        expect(step).toBeLessThan(100 * guests);
        for (const name of due(record, busy, new Set())) {
          expect(busy.has(name)).toBe(false);
          busy.add(name);
          const guest = record.leaving.find((one) => one.name === name)!;
          const to = destinationFor(guest, DESTINATIONS)!;
          expect(guest.refused.map(({ destination }) => destination)).not.toContain(to);
          began.set(name, [...(began.get(name) ?? []), to]);
        }
        expect(busy.size).toBeLessThanOrEqual(parallel);
        expect(busy.size).toBeGreaterThan(0); // somebody is always served
        const [pick, attempt] = ends.next().value!;
        const name = [...busy][pick % busy.size]!;
        const guest = record.leaving.find((one) => one.name === name)!;
        const others = busy.size > 1 && step < 50 * guests;
        const next = settled(guest, attempt(began.get(name)!.at(-1)!), record, others, AT);
        busy.delete(name);
        record = {
          ...record,
          leaving: record.leaving.map((one) => (one.name === name ? next.guest : one)),
        };
      }
    }),
    { numRuns: 500 },
  );
});

const LOOK = { hypervisor: 'simulated', state: 'running' } as const;
const HERE: readonly GuestView[] = [
  { name: 'big', memoryBytes: 2 ** 30, ...LOOK },
  { name: 'small', memoryBytes: 2 ** 26, ...LOOK },
  { name: 'busy', hypervisor: 'qemu', trouble: 'migrating' },
  { name: 'gone', hypervisor: 'qemu', trouble: 'no QEMU answers' },
  { name: 'down', memoryBytes: 2 ** 20, hypervisor: 'qemu', state: 'shut-down' },
];

test('who leaves, and in which order', () => {
  const request = { ...evacuationOf([]), guests: undefined };
  const { guests: _, ...all } = request;
  const order = (order: Order, profiled = 'none') =>
    chosen(HERE, { ...all, order }, (name) =>
      name === profiled ? A_PROFILE : undefined,
    ).leaving.map(({ name }) => name);
  expect(order('smallest')).toEqual(['small', 'big', 'busy']);
  expect(order('name')).toEqual(['big', 'busy', 'small']);
  expect(order('steadiest', 'big')).toEqual(['big', 'small', 'busy']);
  expect(chosen(HERE, all, () => undefined).leftOut).toEqual([
    { name: 'gone', why: 'no QEMU answers' },
    { name: 'down', why: 'it has shut itself down' },
  ]);
  // Those that are named are tried, whatever can be said of them.
  const named = chosen(HERE, { ...all, guests: ['down', 'big'] }, () => undefined);
  expect([named.leaving.length, named.leftOut]).toEqual([2, []]);
  expect(() => chosen(HERE, { ...all, guests: ['vm1'] }, () => undefined)).toThrow('"vm1"');
  expect(() => chosen(HERE.slice(3), all, () => undefined)).toThrow('gone: no QEMU answers');
});

test('a plan asks one destination after the other, until one takes the guest', async () => {
  const asked: string[] = [];
  const ask = (answers: Record<string, { destination?: string; code: string }>) => {
    return async (destination: string) => {
      asked.push(destination);
      const answer = answers[destination];
      return answer && { message: 'no', destination: answer.destination, code: answer.code };
    };
  };
  const guest: Leaving = { name: 'vm1', ...NEW };
  const full = { destination: 'b:1', code: 'memory-insufficient' };
  expect(await plan(guest, DESTINATIONS, ask({ 'b:1': full }))).toMatchObject({
    destination: 'c:1',
    refused: [{ destination: 'b:1', code: 'memory-insufficient' }],
  });
  expect(asked).toEqual(['b:1', 'c:1']);
  const here = await plan(guest, DESTINATIONS, ask({ 'b:1': { code: 'guest-busy' } }));
  expect([here.destination, here.why]).toEqual([undefined, 'no (guest-busy)']);
});
