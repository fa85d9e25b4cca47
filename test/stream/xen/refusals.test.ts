import { describe, expect, it } from 'vitest';
import {
  END,
  join,
  libxcHeaders,
  libxlHeader,
  PAGE,
  pageDataOf,
  pagesFrom,
  prologueOf,
  record,
  tailOf,
  u32,
  u64,
  xlHeader,
} from './builder.ts';
import { collecting, feedIn } from './events.ts';

const XL = xlHeader('{"c_info":{}}');
const NONE = Buffer.alloc(0);
const LIBXL = join(XL, libxlHeader());
const MEMORY = join(LIBXL, record(1));
const PAGES = prologueOf('pv');
const DONE = join(PAGES, pageDataOf(pagesFrom(0, 1)), END);

/** A PAGE_DATA of one page with that word. */
const oneWord = (word: bigint) => record(1, join(u32(1), u32(0), u64(word), Buffer.alloc(PAGE)));
/** Only the head: whoever waits for a body like that has to be refused before it comes. */
const head = (type: number, length: number) => join(u32(type), u32(length));

/** What is wrong, the words that say so, and a stream whose last part is at fault. */
const REFUSED: [what: string, words: string, good: Buffer, bad: Buffer][] = [
  ['another protocol', 'magic of xl', NONE, Buffer.alloc(48, 'SSH-2.0')],
  ['a big-endian host', 'byte order', NONE, xlHeader('{}', { order: 0x04030201 })],
  ['a configuration that is no JSON', 'mandatory flags 2', NONE, xlHeader('{}', { mandatory: 2 })],
  ['flags of a later xl', 'mandatory flags 7', NONE, xlHeader('{}', { mandatory: 7 })],
  ['an endless configuration', '4294967295', NONE, xlHeader('{}', { length: 2 ** 32 - 1 })],
  ['no configuration', 'configuration of 3 bytes', NONE, xlHeader('{}', { length: 3 })],
  ['a configuration beyond its end', '99 bytes where 3', NONE, xlHeader('{}', { config: 99 })],
  ['a legacy stream', 'magic of libxl', XL, Buffer.alloc(16, 1)],
  ['a later libxl', "version 3 of libxl's", XL, libxlHeader(3)],
  ['big-endian libxl', 'big-endian', XL, libxlHeader(2, 1)],
  ['a converted stream', 'legacy', XL, libxlHeader(2, 2)],
  ['an end without memory', 'END before the memory', LIBXL, END],
  ['memory twice', 'for the second time', DONE, record(1)],
  ['an unknown record of libxl', 'mandatory record of libxl', LIBXL, record(6)],
  ['a checkpoint of Remus', 'CHECKPOINT_END, of Remus', DONE, record(4)],
  ['a state of COLO', 'CHECKPOINT_STATE, of COLO', DONE, record(5, u32(1))],
  ['a LIBXC_CONTEXT with a body', 'with 8 bytes, not 0', LIBXL, record(1, Buffer.alloc(8))],
  ['an endless emulator', '4294967295 bytes', DONE, head(3, 2 ** 32 - 1)],
  ['no libxc stream', 'marker of libxc', MEMORY, libxcHeaders(1, { marker: 0xfe })],
  ['a later libxc', "version 4 of libxc's", MEMORY, libxcHeaders(1, { version: 4 })],
  ['big-endian libxc', 'big-endian', MEMORY, libxcHeaders(1, { options: 1 })],
  ['a domain of ARM', 'type 4', MEMORY, libxcHeaders(4)],
  ['pages of 64 KiB', '2^16', MEMORY, libxcHeaders(1, { shift: 16 })],
  ['a checkpoint', 'CHECKPOINT, of Remus or COLO', PAGES, record(0xe)],
  ['a dirty list', 'CHECKPOINT_DIRTY_PFN_LIST, of COLO', PAGES, record(0xf, u64(1n))],
  ['what no Xen writes', 'TOOLSTACK', PAGES, record(0xb, u32(1))],
  ['an unknown record of libxc', 'type 0x13', PAGES, record(0x13, u32(1))],
  ['an END with a body', 'with 4 bytes, not 0', PAGES, record(0, u32(1))],
  ['a VERIFY with a body', 'type 0xd, with 4 bytes', PAGES, record(0xd, u32(1))],
  ['an endless record', '8388609 bytes', PAGES, head(9, 8 * 1024 * 1024 + 1)],
  ['no pages', 'PAGE_DATA of 0 pages', PAGES, record(1, Buffer.alloc(8))],
  ['1025 pages', 'of 1025 pages', PAGES, record(1, join(u32(1025), u32(0)))],
  ['a type that there is not', 'page of type 5', PAGES, oneWord(5n << 60n)],
  ['a pin without a table', 'page of type 8', PAGES, oneWord(8n << 60n)],
  ['reserved bits', 'reserved bits', PAGES, oneWord(1n << 55n)],
  ['a page beyond 16 TiB', 'page 4294967040', PAGES, oneWord(2n ** 32n - 256n)],
  ['a length without its page', 'make 4112', PAGES, record(1, join(u32(1), u32(0), u64(1n)))],
  ['bytes for a page without', 'make 16', PAGES, oneWord(0xfn << 60n)],
];

describe('a stream is refused that has', () => {
  it.each(REFUSED)('%s', (_what, words, good, bad) => {
    for (const pieces of [[], [1], [1000]]) {
      const { parser } = collecting();
      feedIn(pieces, good, parser);
      const error = expect.objectContaining({
        code: 'xen-stream',
        message: expect.stringContaining(words),
      });
      expect(() => feedIn(pieces, bad, parser)).toThrow(error);
      expect(() => parser.feed(tailOf('pv'))).toThrow(error);
    }
  });

  it('and not before the byte that is wrong', () => {
    for (const [what, , good] of REFUSED) {
      const { parser } = collecting();
      expect(() => parser.feed(good), what).not.toThrow();
    }
  });
});
