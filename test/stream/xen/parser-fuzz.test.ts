import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import { KINDS, PAGE, wholeStream } from './builder.ts';
import { collecting, feedIn } from './events.ts';
import { readNaively } from './naive-reader.ts';

/** Lengths, types and numbers that break a careless reader. */
const NASTY = [0, 1, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xf000_0000, 0xffff_ffff];

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
  else if (at + 4 <= copy.length) copy.writeUInt32LE(NASTY[value % NASTY.length]!, at);
  return copy;
}

/** What is told and how it ends; anything but a refusal is a bug. */
function outcome(stream: Buffer, cuts: readonly number[]): string {
  const { events, parser } = collecting();
  try {
    feedIn(cuts, stream, parser);
  } catch (error) {
    if (!(error instanceof GodwitError) || error.code !== 'xen-stream') throw error;
    // Bytes that were passed before the refusal are the same, in other pieces.
    return [...events.all(), error.message].join('\n');
  }
  return events.all().join('\n');
}

const pieces = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 9000 })),
  {
    minLength: 1,
    maxLength: 6,
  },
);

describe('damaged streams', () => {
  it.each(KINDS)('are refused or read, the same whatever the cuts: %s', (kind) => {
    const stream = wholeStream(kind);
    const { starts } = readNaively(stream);
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), pieces, (hurts, cuts) => {
        const hurt = hurts.reduce((bytes, one) => damaged(bytes, starts, one), stream);
        const whole = outcome(hurt, []);
        const got = outcome(hurt, cuts);
        if (got !== whole) expect(got).toBe(whole);
      }),
      { numRuns: 600 },
    );
  });

  it('are refused or read: noise after each prefix', () => {
    const stream = wholeStream('pv');
    fc.assert(
      fc.property(
        fc.nat(stream.length),
        fc.uint8Array({ maxLength: 64 }),
        pieces,
        (at, noise, cuts) => {
          outcome(Buffer.concat([stream.subarray(0, at), Buffer.from(noise)]), cuts);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
