import { constants, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import { ContentGenerator, changeInPlace } from '../../../lib/guest/simulated/content.ts';
import {
  DEFAULT_MIX,
  pageKindAt,
  parseContentMix,
} from '../../../lib/guest/simulated/content-mix.ts';
import { Random } from '../../../lib/guest/simulated/random.ts';
import { PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';

const PAGES = 16_384;

function bootMemory(seed: number): Buffer[] {
  const content = new ContentGenerator(DEFAULT_MIX, seed, PAGES);
  return Array.from({ length: PAGES }, (_, pfn) => {
    const page = Buffer.alloc(PAGE_SIZE);
    content.fillAtBoot(page, 0, pfn);
    return page;
  });
}

describe('memory of a 64 MiB guest', () => {
  const memory = bootMemory(7);
  const zero = Buffer.alloc(PAGE_SIZE);

  test('has the shares of the mix', () => {
    const share = memory.filter((page) => page.equals(zero)).length / PAGES;
    expect(share).toBeGreaterThan(0.25);
    expect(share).toBeLessThan(0.35);
  });

  test('has its kinds in runs', () => {
    let changes = 0;
    for (let pfn = 1; pfn < PAGES; pfn++)
      if (pageKindAt(DEFAULT_MIX, 7, pfn) !== pageKindAt(DEFAULT_MIX, 7, pfn - 1)) changes++;
    expect(changes).toBeGreaterThan(PAGES / 256);
    expect(changes).toBeLessThan(PAGES / 8);
  });

  test('compresses as real memory does, 2 to 3 times without its zero pages', () => {
    const filled = memory.filter((page) => !page.equals(zero));
    let compressed = 0;
    for (let i = 0; i < filled.length; i += 256) {
      const params = { [constants.ZSTD_c_compressionLevel]: 1 };
      compressed += zstdCompressSync(Buffer.concat(filled.slice(i, i + 256)), { params }).length;
    }
    const ratio = (filled.length * PAGE_SIZE) / compressed;
    expect(ratio).toBeGreaterThan(1.9);
    expect(ratio).toBeLessThan(3);
  });

  test('has duplicates, about as many as the mix says, and nearly no others', () => {
    const kinds = new Map<string, number>();
    for (const page of memory) {
      const key = page.toString('latin1');
      if (!page.equals(zero)) kinds.set(key, (kinds.get(key) ?? 0) + 1);
    }
    const copies = [...kinds.values()].filter((n) => n > 1).reduce((sum, n) => sum + n, 0);
    expect(copies / PAGES).toBeGreaterThan(0.06);
    expect(copies / PAGES).toBeLessThan(0.14);
  });

  test('is the same for the same seed and another for another', () => {
    const other = new ContentGenerator(DEFAULT_MIX, 8, PAGES);
    const again = new ContentGenerator(DEFAULT_MIX, 7, PAGES);
    const page = Buffer.alloc(PAGE_SIZE);
    const pfn = memory.findIndex((candidate) => !candidate.equals(zero));
    again.fillAtBoot(page, 0, pfn);
    expect(page.equals(memory[pfn]!)).toBe(true);
    other.rewrite(page, 0, pfn, 1);
    expect(page.equals(memory[pfn]!)).toBe(false);
  });
});

test('a rewrite depends on the generation and never leaves a zero page', () => {
  const content = new ContentGenerator(DEFAULT_MIX, 7, PAGES);
  const [first, second] = [Buffer.alloc(PAGE_SIZE), Buffer.alloc(PAGE_SIZE)];
  for (let pfn = 0; pfn < 64; pfn++) {
    content.rewrite(first, 0, pfn, 2);
    content.rewrite(second, 0, pfn, 3);
    expect(first.equals(second)).toBe(false);
    expect(first.equals(Buffer.alloc(PAGE_SIZE))).toBe(false);
  }
});

test('a change in place touches some bytes and leaves the most', () => {
  const random = new Random(3);
  for (let i = 0; i < 1000; i++) {
    const page = Buffer.alloc(PAGE_SIZE, 0xa5);
    changeInPlace(page, random);
    const changed = page.filter((byte) => byte !== 0xa5).length;
    expect(changed).toBeGreaterThan(0);
    expect(changed).toBeLessThanOrEqual(4 * 32);
  }
});

describe('the mix option', () => {
  test('takes percentages in any order', () => {
    expect(parseContentMix('random=90,zero=10', '--content')).toEqual({
      ...{ zero: 10, text: 0, binary: 0, random: 90, duplicate: 0 },
    });
  });

  test.each(['', 'zero=50', 'zero=50,text=60', 'zero=100,cats=0', 'zero=-1', 'zero=1e2', 'zero'])(
    'refuses %j',
    (text) => expect(() => parseContentMix(text, '--content')).toThrow(GodwitError),
  );
});
