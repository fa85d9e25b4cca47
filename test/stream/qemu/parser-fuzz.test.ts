import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import { PAGE, wholeStream } from './builder.ts';
import { CAPTURES, capture } from './captures.ts';
import { collecting, feedIn } from './events.ts';
import { readNaively } from './naive-reader.ts';

/** Lengths and numbers that break a careless reader. */
const NASTY = [0, 1, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

interface Damage {
  readonly how: 'flip' | 'cut' | 'drop' | 'double' | 'insert' | 'number';
  /** Which token, and where in it. */
  readonly token: number;
  readonly byte: number;
  readonly value: number;
}

const damage: fc.Arbitrary<Damage> = fc.record({
  how: fc.constantFrom('flip', 'cut', 'drop', 'double', 'insert', 'number'),
  token: fc.nat(),
  byte: fc.oneof(fc.nat(24), fc.nat(2 * PAGE)),
  value: fc.nat(0xffff),
});

function damaged(stream: Buffer, starts: readonly number[], hurt: Damage): Buffer {
  const { how, token, byte, value } = hurt;
  const at = Math.min(starts[token % starts.length]! + byte, stream.length - 1);
  const before = stream.subarray(0, at);
  const rest = stream.subarray(at);
  const length = 1 + (value % 40);
  if (how === 'cut') return before;
  if (how === 'drop') return Buffer.concat([before, rest.subarray(length)]);
  if (how === 'double') return Buffer.concat([before, rest.subarray(0, length), rest]);
  if (how === 'insert') return Buffer.concat([before, Buffer.from([value & 0xff]), rest]);
  const copy = Buffer.from(stream);
  if (how === 'flip') copy[at]! ^= 1 << (value % 8);
  else if (at + 4 <= copy.length) copy.writeUInt32BE(NASTY[value % NASTY.length]!, at);
  return copy;
}

/** What came of a stream: its events, and the refusal if there was one. */
function outcome(stream: Buffer, pieces: readonly number[]) {
  const { parser, events } = collecting();
  let refusal = '';
  try {
    feedIn(pieces, stream, parser);
    if (!events.lines.includes('ram ended'))
      expect(stream.length - parser.position, 'bytes held back').toBeLessThan(PAGE);
  } catch (error) {
    if (!(error instanceof GodwitError) || error.code !== 'qemu-stream') throw error;
    refusal = error.message;
  }
  return { lines: events.all(), refusal };
}

const pieces = fc.array(fc.integer({ min: 1, max: 6000 }), { minLength: 1, maxLength: 6 });

/** Damage is met by a refusal or by events, and by the same ones however the stream is cut. */
function survives(stream: Buffer, starts: readonly number[], runs: number): void {
  const refusals = new Set<string>();
  const property = fc.property(
    fc.array(damage, { minLength: 1, maxLength: 3 }),
    pieces,
    (hurts, cuts) => {
      const hurt = hurts.reduce((bytes, one) => damaged(bytes, starts, one), stream);
      const whole = outcome(hurt, []);
      const cut = outcome(hurt, cuts);
      expect(cut.refusal).toBe(whole.refusal);
      if (whole.refusal === '') expect(cut.lines).toEqual(whole.lines);
      refusals.add(whole.refusal.replace(/\d+/g, 'N'));
    },
  );
  fc.assert(property, { numRuns: runs / 2, seed: 1 });
  // The damage of this seed reached many of the rules, and left some streams whole.
  expect(refusals.size).toBeGreaterThan(8);
  expect(refusals).toContain('');
  fc.assert(property, { numRuns: runs / 2 }); // a failure names its seed
}

describe('damaged streams', () => {
  it('are refused or read, the same whatever the cuts: made by hand', () => {
    const stream = wholeStream();
    survives(stream, [0, 4, 8, 12, ...readNaively(stream).starts], 3000);
  });

  it.each(CAPTURES)('are refused or read, the same whatever the cuts: %s', (name) => {
    const stream = capture(name);
    // Half of the damage goes to the prologue: the rest has many tokens of few kinds.
    const { starts } = readNaively(stream);
    const early = Array.from(starts, (_, i) => i % 200);
    survives(stream, [...early, ...starts], 300);
  });

  it('are refused or read: noise after each prefix', () => {
    const stream = wholeStream();
    fc.assert(
      fc.property(
        fc.nat(stream.length),
        fc.uint8Array({ maxLength: 64 }),
        pieces,
        (at, noise, cuts) => {
          outcome(Buffer.concat([stream.subarray(0, at), Buffer.from(noise)]), cuts);
        },
      ),
      { numRuns: 3000 },
    );
  });
});
