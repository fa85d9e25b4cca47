import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { CHUNK_PAGES, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import type { PageBatch } from '../../lib/wire/messages.ts';
import { Pipeline } from './pipeline.ts';

let open: Pipeline | undefined;
afterEach(() => open?.close());

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
      return [message, Buffer.concat([payload, randomBytes(value % 5000)])];
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

test('a damaged batch is refused with its code or was no worse for it', () => {
  const codes = new Set<string>();
  fc.assert(
    fc.property(
      fc.array(damage, { minLength: 1, maxLength: 3 }),
      fc.constantFrom<0 | 1 | 3>(0, 1, 3),
      (damages, level) => {
        open?.close();
        const p = new Pipeline(REGIONS, 1);
        open = p;
        const pfns = Array.from({ length: PAGES }, (_, i) => i);
        // Every encoding: random, zero, a copy of an earlier page, then changed, then unchanged.
        for (const pfn of pfns) if (pfn % 4 !== 0) randomBytes(PAGE_SIZE).copy(p.page(pfn));
        p.page(1).copy(p.page(2));
        p.send(1, pfns, 1);
        for (const pfn of pfns) if (pfn % 3 === 0) p.page(pfn)[7]! ^= 1;
        p.send(2, pfns, level);
        for (const pfn of pfns) if (pfn % 3 === 1) p.page(pfn)[9]! ^= 1;
        const before = p.destination();
        const batch = p.encode(3, 0, pfns, level);
        let message = batch.message;
        let payload: Buffer = Buffer.concat(batch.payload);
        for (const one of damages) [message, payload] = damaged(message, payload, one);
        try {
          p.decoders[0]!.decode(message, payload);
        } catch (error) {
          const { code } = error as { code: string };
          expect(code).toMatch(
            /^(bad-message|pfn-out-of-range|page-hash-mismatch|decompress-failed)$/,
          );
          expect(p.destination().equals(before)).toBe(true); // nothing of it was written
          codes.add(code);
        }
      },
    ),
    { numRuns: 120 },
  );
  expect(codes.size).toBe(4);
});
