import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { CHUNK_PAGES } from '../../lib/memory/guest-layout.ts';
import type { Level } from '../../lib/pages/compression.ts';
import type { PageBatch } from '../../lib/wire/messages.ts';
import { noise, Pipeline } from './pipeline.ts';

let open: Pipeline | undefined;
afterEach(() => {
  open?.close();
  open = undefined;
});

const REGIONS = [{ name: 'ram', firstPfn: 0, pages: 2 * CHUNK_PAGES }];
const PAGES = 24;

/** What may be changed about a batch, so that it still is a message. */
const damage = fc.record({
  field: fc.constantFrom(
    ...(['round', 'chunk', 'offsetDelta', 'encodings', 'hashes', 'copyOf'] as const),
    ...(['rawCompressed', 'rawLength', 'deltaLength', 'payload', 'cut', 'grow'] as const),
  ),
  at: fc.nat(),
  value: fc.oneof(fc.nat(300), fc.nat(2 ** 32 - 1)),
});

function damaged(
  message: PageBatch,
  payload: Buffer,
  { field, at, value }: { field: string; at: number; value: number },
): [PageBatch, Buffer] {
  const bytes = (from: Uint8Array) => {
    const copy = Buffer.from(from);
    if (copy.length > 0) copy[at % copy.length] = value;
    return copy;
  };
  const list = (from: readonly number[]) =>
    from.length === 0 ? [value] : from.map((n, i) => (i === at % from.length ? value : n));
  switch (field) {
    case 'payload':
      return [message, bytes(payload)];
    case 'cut':
      return [message, payload.subarray(0, at % (payload.length + 1))];
    case 'grow':
      return [message, Buffer.concat([payload, Buffer.alloc(value % 5000, at)])];
    case 'rawCompressed':
      return [{ ...message, rawCompressed: !message.rawCompressed }, payload];
    case 'encodings':
    case 'hashes':
      return [{ ...message, [field]: bytes(message[field]) }, payload];
    case 'offsetDelta':
    case 'copyOf':
      return [{ ...message, [field]: list(message[field]) }, payload];
    default:
      return [{ ...message, [field]: value }, payload];
  }
}

/** A batch of round 3 that has every encoding, and the receiver that it is meant for. */
function prepared(level: Level, seed: number) {
  open?.close();
  const p = new Pipeline(REGIONS, 1);
  open = p;
  const pfns = Array.from({ length: PAGES }, (_, i) => i);
  // Noise, zeros, one page many times; then some that changed, and again some.
  for (const pfn of pfns) if (pfn % 4 !== 0) noise(p.page(pfn), seed + pfn);
  for (const pfn of [2, 5, 11, 14, 17]) p.page(1).copy(p.page(pfn));
  p.send(1, pfns, 1);
  for (const pfn of pfns) if (pfn % 3 === 0) p.page(pfn)[7]! ^= 1;
  p.send(2, pfns, level);
  for (const pfn of pfns) if (pfn % 3 === 1) p.page(pfn)[9]! ^= 1;
  const { message, payload } = p.encode(3, 0, pfns, level);
  return { receiver: p, message, payload: Buffer.concat(payload) };
}

/** The code of the refusal, or undefined when the batch was taken. */
function codeOf(receiver: Pipeline, message: PageBatch, payload: Buffer): string | undefined {
  const before = receiver.destination();
  try {
    receiver.decoders[0]!.decode(message, payload);
    return undefined;
  } catch (error) {
    expect(receiver.destination().equals(before)).toBe(true); // nothing of it was written
    return (error as { code: string }).code;
  }
}

test.each([
  ['bad-message', 'grow', 0, 1],
  ['pfn-out-of-range', 'chunk', 0, 2],
  ['page-hash-mismatch', 'hashes', 8, 1],
  ['decompress-failed', 'payload', 'the delta section', 0],
] as const)('%s: when damage is to %s', (code, field, where, value) => {
  const { receiver, message, payload } = prepared(1, 1);
  const at = where === 'the delta section' ? message.rawLength : where;
  const [badMessage, badPayload] = damaged(message, payload, { field, at, value });
  expect(codeOf(receiver, badMessage, badPayload)).toBe(code);
  expect(codeOf(receiver, message, payload)).toBeUndefined(); // it was the damage
});

test('a damaged batch is refused with its code or was no worse for it', () => {
  fc.assert(
    fc.property(
      fc.array(damage, { minLength: 1, maxLength: 3 }),
      fc.constantFrom<Level>(0, 1, 3),
      fc.nat(1000),
      (damages, level, seed) => {
        const { receiver, ...batch } = prepared(level, seed);
        const [message, payload] = damages.reduce<[PageBatch, Buffer]>(
          ([message, payload], one) => damaged(message, payload, one),
          [batch.message, batch.payload],
        );
        expect(codeOf(receiver, message, payload) ?? 'taken').toMatch(
          /^(taken|bad-message|pfn-out-of-range|page-hash-mismatch|decompress-failed)$/,
        );
      },
    ),
    { numRuns: 120 }, // a failure names its seed
  );
});
