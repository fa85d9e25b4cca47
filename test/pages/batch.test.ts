import { randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { PageSet } from '../../lib/memory/page-set.ts';
import type { Level } from '../../lib/pages/compression.ts';
import { ENCODING } from '../../lib/pages/encoding.ts';
import type { PageBatch } from '../../lib/wire/messages.ts';
import { noise, Pipeline } from './pipeline.ts';

/** Two regions with a gap between them, both with a last chunk that is not full. */
const REGIONS = [
  { name: 'low', firstPfn: 0, pages: 300 },
  { name: 'high', firstPfn: 768, pages: 520 },
];

let open: Pipeline | undefined;
afterEach(() => {
  open?.close();
  open = undefined;
});
const pipeline = (regions = REGIONS, lanes = 1) => {
  open?.close();
  open = new Pipeline(regions, lanes);
  return open;
};

/** One write of the guest: where, what kind, and a number to make it of. */
const write = fc.record({
  page: fc.oneof(fc.nat(5), fc.nat(819)), // a few pages are written again and again
  kind: fc.constantFrom('zero', 'random', 'small', 'copy', 'same', 'text'),
  value: fc.nat(1000),
});

test('after any rounds of writes the destination has what the source has', () => {
  const seen = new Set<number>();
  const property = fc.property(
    fc.integer({ min: 1, max: 3 }),
    fc.array(
      fc.record({
        level: fc.constantFrom<Level>(0, 1, 3),
        spare: fc.boolean(),
        writes: fc.array(write, { minLength: 1, maxLength: 60 }),
      }),
      { minLength: 1, maxLength: 6 },
    ),
    (lanes, rounds) => {
      const p = pipeline(REGIONS, lanes);
      const pfnOf = (page: number) => (page < 300 ? page : page - 300 + 768);
      const all = Array.from({ length: 820 }, (_, page) => pfnOf(page));
      p.send(1, all, 1);
      rounds.forEach(({ level, spare, writes }, i) => {
        p.spare = spare;
        for (const { page, kind, value } of writes) change(p, pfnOf(page), kind, value, pfnOf);
        p.send(
          i + 2,
          writes.map(({ page }) => pfnOf(page)),
          level,
        );
      });
      for (const encoding of p.encodings) seen.add(encoding);
      expect(p.destination().equals(p.source)).toBe(true);
      const { sent, received } = p.digests();
      expect(received).toEqual(sent);
    },
  );
  fc.assert(property, { numRuns: 30, seed: 1 });
  // This seed meets every encoding; otherwise the test would prove less than it says.
  expect([...seen].sort()).toEqual(Object.values(ENCODING));
  fc.assert(property, { numRuns: 30 }); // a failure names its seed
});

function change(
  p: Pipeline,
  pfn: number,
  kind: string,
  value: number,
  pfnOf: (n: number) => number,
) {
  const page = p.page(pfn);
  if (kind === 'zero') page.fill(0);
  else if (kind === 'random') noise(page, value);
  else if (kind === 'small') page.writeUInt32LE(value + 1, (value * 4) % PAGE_SIZE);
  else if (kind === 'text') page.fill(`word ${value % 7} and `);
  else if (kind === 'copy') p.page(pfnOf(value % 820)).copy(page);
}

describe('how a page travels', () => {
  const encodingOf = (p: Pipeline, round: number, pfn: number, level: Level) => {
    const batch = p.encode(round, Math.floor(pfn / 256), [pfn % 256], level);
    p.decode(batch);
    return batch.message.encodings[0];
  };

  test('zero, raw, same, delta and copy each where they belong', () => {
    const p = pipeline();
    noise(p.page(1), 1);
    for (const pfn of [2, 3, 4]) p.page(1).copy(p.page(pfn));
    expect(encodingOf(p, 1, 0, 1)).toBe(ENCODING.zero);
    expect(encodingOf(p, 1, 1, 1)).toBe(ENCODING.raw);
    expect(encodingOf(p, 1, 2, 1)).toBe(ENCODING.raw); // alike, and from now on known for certain
    expect(encodingOf(p, 1, 3, 1)).toBe(ENCODING.copy);
    expect(encodingOf(p, 1, 1, 1)).toBe(ENCODING.raw); // alike
    expect(encodingOf(p, 1, 1, 1)).toBe(ENCODING.same);
    expect(encodingOf(p, 1, 4, 1)).toBe(ENCODING.copy);
    expect(encodingOf(p, 1, 4, 1)).toBe(ENCODING.same); // a copy is known as well
    p.page(1)[9]! ^= 1;
    expect(encodingOf(p, 2, 1, 1)).toBe(ENCODING.raw); // remembered from now on
    p.page(1)[9]! ^= 3;
    expect(encodingOf(p, 3, 1, 1)).toBe(ENCODING.delta);
    noise(p.page(1), 2);
    expect(encodingOf(p, 4, 1, 1)).toBe(ENCODING.raw); // too much has changed
  });

  test('with time to spare, what comes again is left out the first time', () => {
    const p = pipeline();
    p.spare = true;
    noise(p.page(1), 1);
    p.page(1).copy(p.page(2));
    expect(encodingOf(p, 1, 1, 0)).toBe(ENCODING.raw);
    expect(encodingOf(p, 2, 1, 0)).toBe(ENCODING.same);
    expect(encodingOf(p, 2, 2, 0)).toBe(ENCODING.raw); // level 0 looks for no copies
    noise(p.page(1), 2);
    p.page(1).copy(p.page(2));
    expect(encodingOf(p, 3, 1, 1)).toBe(ENCODING.raw);
    expect(encodingOf(p, 3, 2, 1)).toBe(ENCODING.copy);
  });

  test('a copy is not made of a page that has changed since', () => {
    const p = pipeline();
    randomBytes(PAGE_SIZE).copy(p.page(1));
    const old = Buffer.from(p.page(1));
    p.send(1, [1], 1);
    p.page(1).fill(1);
    p.send(2, [1], 1);
    old.copy(p.page(2));
    expect(encodingOf(p, 2, 2, 1)).toBe(ENCODING.raw);
    expect(
      p
        .destination()
        .subarray(2 * PAGE_SIZE, 3 * PAGE_SIZE)
        .equals(old),
    ).toBe(true);
  });

  test('a page that becomes zero is written as zeros, one never written stays a hole', () => {
    const p = pipeline();
    p.page(5).fill(7);
    p.send(1, [4, 5], 0);
    expect(p.blocks()).toBe(1);
    p.page(5).fill(0);
    p.send(2, [4, 5], 0);
    expect(p.destination().equals(p.source)).toBe(true);
    expect(p.blocks()).toBe(1);
  });

  test('zeros reach memory that was not empty', () => {
    const p = pipeline();
    for (const pfn of [0, 3, 299, 768]) p.spoil(pfn);
    p.send(1, [0, 1, 2, 3, 4, 298, 299, 768], 1);
    expect(p.destination().equals(p.source)).toBe(true);
  });
});

describe('a batch that breaks a rule is refused and writes nothing', () => {
  const page = randomBytes(PAGE_SIZE);
  const good = (p: Pipeline): PageBatch => {
    const hashes = Buffer.alloc(8);
    hashes.writeBigUInt64LE(p.hash.of(page));
    return {
      round: 1,
      chunk: 0,
      offsetDelta: [0],
      encodings: Uint8Array.of(ENCODING.raw),
      hashes,
      copyOf: [],
      rawCompressed: false,
      rawLength: PAGE_SIZE,
      deltaLength: 0,
    };
  };
  const bomb = zlib.zstdCompressSync(Buffer.alloc(64 << 20));
  const cases: [string, string, Partial<PageBatch>, Buffer?][] = [
    ['a wrong hash', 'page-hash-mismatch', { hashes: Buffer.alloc(8, 1) }],
    ['another content', 'page-hash-mismatch', {}, randomBytes(PAGE_SIZE)],
    ['a chunk of another lane', 'pfn-out-of-range', { chunk: 1 }],
    ['a chunk in a gap', 'pfn-out-of-range', { chunk: 2 }],
    ['a chunk past the end', 'pfn-out-of-range', { chunk: 4_000_000_000 }],
    ['a page past the end of its region', 'pfn-out-of-range', { chunk: 4, offsetDelta: [16 * 17] }],
    ['an offset past the chunk', 'pfn-out-of-range', { offsetDelta: [256] }],
    [
      'no page',
      'bad-message',
      { offsetDelta: [], encodings: new Uint8Array(0), hashes: new Uint8Array(0) },
    ],
    ['too few hashes', 'bad-message', { hashes: new Uint8Array(7) }],
    ['too many encodings', 'bad-message', { encodings: Uint8Array.of(1, 1) }],
    ['an unknown encoding', 'bad-message', { encodings: Uint8Array.of(9) }],
    ['a payload that is too long', 'bad-message', {}, Buffer.concat([page, page])],
    ['a raw section that is too short', 'bad-message', { rawLength: 12 }, page.subarray(0, 12)],
    [
      'a delta section without a delta',
      'bad-message',
      { deltaLength: 4 },
      Buffer.concat([page, page.subarray(0, 4)]),
    ],
    [
      'copies without sources',
      'bad-message',
      { encodings: Uint8Array.of(4), rawLength: 0 },
      Buffer.alloc(0),
    ],
    [
      'a copy of another lane',
      'pfn-out-of-range',
      { encodings: Uint8Array.of(4), copyOf: [256], rawLength: 0 },
      Buffer.alloc(0),
    ],
    [
      'a copy of nothing',
      'pfn-out-of-range',
      { encodings: Uint8Array.of(4), copyOf: [600], rawLength: 0 },
      Buffer.alloc(0),
    ],
    [
      'same for a page that never came',
      'page-hash-mismatch',
      { encodings: Uint8Array.of(2), rawLength: 0 },
      Buffer.alloc(0),
    ],
    [
      'a decompression bomb',
      'decompress-failed',
      { rawCompressed: true, rawLength: bomb.length },
      bomb,
    ],
    ['no zstd', 'decompress-failed', { rawCompressed: true }],
    [
      'less than was announced',
      'decompress-failed',
      { rawCompressed: true, rawLength: zlib.zstdCompressSync(page.subarray(1)).length },
      zlib.zstdCompressSync(page.subarray(1)),
    ],
  ];
  test.each(cases)('%s: %s', (_, code, change, payload = page) => {
    const p = pipeline(REGIONS, 2);
    expect(() => p.decoders[0]!.decode({ ...good(p), ...change }, payload)).toThrow(
      expect.objectContaining({ code }),
    );
    expect(p.destination().every((byte) => byte === 0)).toBe(true);
    // Nothing counts as arrived.
    const owed = new PageSet(p.layout.pfnEnd);
    owed.add(0);
    p.tags.settle(owed, 1);
    expect(owed.has(0)).toBe(true);
  });

  test('pages that do not rise', () => {
    const p = pipeline();
    const hash = good(p).hashes;
    const batch = {
      ...good(p),
      offsetDelta: [3, 0],
      encodings: Uint8Array.of(1, 1),
      hashes: Buffer.concat([hash, hash]),
      rawLength: 2 * PAGE_SIZE,
    };
    expect(() => p.decoders[0]!.decode(batch, Buffer.concat([page, page]))).toThrow(
      expect.objectContaining({ code: 'bad-message' }),
    );
  });

  test('one bad page among good ones keeps all of them out', () => {
    const p = pipeline();
    const hash = good(p).hashes;
    const batch = {
      ...good(p),
      offsetDelta: [0, 1],
      encodings: Uint8Array.of(1, 1),
      hashes: Buffer.concat([hash, Buffer.alloc(8)]),
      rawLength: 2 * PAGE_SIZE,
    };
    expect(() => p.decoders[0]!.decode(batch, Buffer.concat([page, page]))).toThrow();
    expect(p.destination().every((byte) => byte === 0)).toBe(true);
  });
});
