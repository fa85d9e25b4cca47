import { AssertionError } from 'node:assert';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasBytes } from '../../../lib/stream/xen/format.ts';
import { pageData, type XenPage } from '../../../lib/stream/xen/writer.ts';
import { END, join, PAGE, type Page, pageDataOf, prologueOf } from './builder.ts';
import { eventsOf } from './events.ts';
import { readNaively } from './naive-reader.ts';

const filled = (fill: number) => Buffer.alloc(PAGE, fill);
const written = ([pfn, type, fill = 0]: Page): XenPage =>
  hasBytes(type) ? { pfn, type, bytes: filled(fill) } : { pfn, type };

const page: fc.Arbitrary<Page> = fc.tuple(
  fc.oneof(fc.nat(40), fc.nat(2 ** 31 - 1)),
  fc.constantFrom(0, 1, 2, 3, 4, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf),
  fc.nat(255),
);

describe('pageData', () => {
  it('writes the bytes that Xen reads', () => {
    fc.assert(
      fc.property(fc.array(page, { minLength: 1, maxLength: 12 }), (pages) => {
        expect(join(...pageData(pages.map(written))).equals(pageDataOf(pages))).toBe(true);
      }),
    );
  });

  it('writes 1024 pages, and pfns beyond 2^32', () => {
    const pages = Array.from({ length: 1024 }, (_, i): Page => [2 ** 40 + i, 0xf]);
    expect(join(...pageData(pages.map(written))).equals(pageDataOf(pages))).toBe(true);
  });

  it('is read back by both readers as it was given', () => {
    const pages: Page[] = [
      [9, 0xc, 1],
      [2, 0xf],
      [2 ** 31, 0, 7],
    ];
    const stream = join(prologueOf('pv'), ...pageData(pages.map(written)), END, END);
    expect(eventsOf(stream, 999)).toEqual(readNaively(stream).lines);
  });

  it('does not copy pages', () => {
    const bytes = filled(7);
    expect(pageData([{ pfn: 1, type: 0, bytes }])).toContain(bytes);
  });

  it('takes only what a record can hold', () => {
    const bytes = filled(1);
    const bad: (readonly XenPage[])[] = [
      [],
      Array(1025).fill({ pfn: 1, type: 0xf }),
      [{ pfn: 1, type: 0 }],
      [{ pfn: 1, type: 0xf, bytes }],
      [{ pfn: 1, type: 5, bytes }],
      [{ pfn: 1, type: 0, bytes: bytes.subarray(1) }],
      [{ pfn: 2 ** 52, type: 0, bytes }],
      [{ pfn: -1, type: 0, bytes }],
    ];
    for (const pages of bad) expect(() => pageData(pages)).toThrow(AssertionError);
  });
});
