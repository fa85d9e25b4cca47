import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SharedLink } from '../../lib/evacuation/shared-link.ts';
import type { Caps } from '../../lib/precopy/suspension-rate.ts';

const TOTAL = 125e6;
/** Of a sum of shares. */
const ROUNDING = 1 + 1e-9;

/** Guests as the link steers them: what each may send at this moment. */
class Guests {
  readonly link: SharedLink;
  readonly caps = new Map<string, Required<Caps>>();
  readonly suspended = new Set<string>();
  readonly #total: number;
  steered = 0;

  constructor(parallel: number, total = TOTAL) {
    this.#total = total;
    this.link = new SharedLink(total, parallel);
  }

  join(name: string): void {
    this.#is(name, this.link.join(name));
    this.link.carry(name, (caps) => this.#is(name, caps));
  }

  leave(name: string): void {
    this.caps.delete(name);
    this.suspended.delete(name);
    this.link.leave(name);
  }

  /** Also in the middle of a change: what is taken away is taken first. */
  #is(name: string, caps: Required<Caps>): void {
    this.caps.set(name, caps);
    this.steered++;
    expect(this.sum).toBeLessThanOrEqual(this.#total * ROUNDING);
  }

  inForce(name: string): number {
    const { bandwidth, suspendBandwidth } = this.caps.get(name)!;
    return (this.suspended.has(name) ? suspendBandwidth : bandwidth) ?? 0;
  }

  get sum(): number {
    return [...this.caps.keys()].reduce((sum, name) => sum + this.inForce(name), 0);
  }
}

const NAMES = ['vm1', 'vm2', 'vm3', 'vm4', 'vm5', 'vm6'];
const STEPS = fc.array(
  fc.record({
    what: fc.constantFrom(...(['join', 'leave', 'take', 'suspend', 'give back'] as const)),
    name: fc.constantFrom(...NAMES),
  }),
  { maxLength: 60 },
);

test('the sum is never above the total, nobody starves, and who is suspended comes first', () => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const guests = new Guests(NAMES.length);
      const { link, caps, suspended } = guests;
      let turn: string | undefined;
      for (const { what, name } of steps) {
        if (what === 'join' && !caps.has(name)) guests.join(name);
        if (!caps.has(name)) continue;
        if (what === 'take') {
          expect(link.take(name)).toBe(turn === undefined || turn === name);
          turn ??= name;
        }
        if (what === 'suspend' && turn === name) suspended.add(name);
        if (what === 'give back') {
          suspended.delete(name);
          link.giveBack(name);
        }
        if (what === 'leave') guests.leave(name);
        if (what === 'leave' || what === 'give back') turn = turn === name ? undefined : turn;
        expect(guests.sum).toBeLessThanOrEqual(TOTAL * ROUNDING);
        for (const one of caps.keys()) {
          expect(guests.inForce(one)).toBeGreaterThanOrEqual(TOTAL / 8 / NAMES.length);
          const first = turn === undefined || turn === one ? one : turn;
          expect(guests.inForce(first)).toBeGreaterThanOrEqual(guests.inForce(one) * 0.99);
        }
        if (turn !== undefined)
          expect(guests.inForce(turn)).toBeGreaterThanOrEqual((TOTAL * 7) / 8 / ROUNDING);
      }
    }),
    { numRuns: 1000 },
  );
});

test('nothing of a link is left unused, but for the moment of a suspension', () => {
  const guests = new Guests(4);
  for (const name of NAMES.slice(0, 4)) guests.join(name);
  expect(guests.sum).toBeCloseTo(TOTAL);
  expect(guests.caps.get('vm1')!.bandwidth).toBeCloseTo(TOTAL / 4);
  for (const name of ['vm2', 'vm3', 'vm4']) guests.leave(name);
  expect(guests.caps.get('vm1')!.bandwidth).toBeCloseTo(TOTAL);
});

test('the forecast of a guest rests on what it will have, whoever runs or is suspended', () => {
  const guests = new Guests(3);
  const seen = new Set<number | undefined>();
  const look = () => {
    for (const { suspendBandwidth } of guests.caps.values()) seen.add(suspendBandwidth);
  };
  for (const name of NAMES.slice(0, 3)) {
    guests.join(name);
    look();
  }
  guests.link.take('vm2');
  look();
  guests.leave('vm1');
  look();
  expect([...seen]).toEqual([(TOTAL * 7) / 8]);
});

test('one guest at a time has all of it; a cap of its suspension binds it', () => {
  const alone = new SharedLink(TOTAL, 1);
  expect(alone.join('vm1')).toEqual({ bandwidth: TOTAL, suspendBandwidth: TOTAL });
  const bound = new SharedLink(TOTAL, 4, 1e6);
  expect(bound.join('vm1').suspendBandwidth).toBe(1e6);
});

test('without a total nobody is capped, and the turns are kept', () => {
  const link = new SharedLink(undefined, 2);
  expect(link.join('vm1')).toEqual({ bandwidth: undefined, suspendBandwidth: undefined });
  link.join('vm2');
  const told: Caps[] = [];
  link.carry('vm2', (caps) => told.push(caps));
  expect([link.take('vm1'), link.take('vm2')]).toEqual([true, false]);
  link.leave('vm1');
  expect(link.take('vm2')).toBe(true);
  expect(told).toEqual([{ bandwidth: undefined, suspendBandwidth: undefined }]); // as it began
});
