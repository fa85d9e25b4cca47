import { describe, expect, it } from 'vitest';
import { XenStreamParser } from '../../../lib/stream/xen/parser.ts';
import {
  configOf,
  END,
  join,
  KINDS,
  libxcHeaders,
  libxlHeader,
  PAGE,
  pageDataOf,
  pagesFrom,
  prologueOf,
  record,
  roundsOf,
  tailOf,
  wholeStream,
  xlHeader,
} from './builder.ts';
import { collecting, Events, eventsOf, feedIn } from './events.ts';
import { readNaively } from './naive-reader.ts';

const GO = Buffer.from('domain is yours, you are cleared to unpause\0');

describe.each(KINDS)('the stream of a %s guest', (kind) => {
  const stream = join(wholeStream(kind), GO);
  const { lines, starts } = readNaively(stream);

  it('says what a second reader finds', () => {
    expect(eventsOf(stream)).toEqual(lines);
  });

  it('says the same when it comes byte by byte, and in odd pieces', () => {
    for (const pieces of [[1], [4095], [4096, 1], [13, 5000, 8]])
      expect(eventsOf(stream, ...pieces)).toEqual(lines);
  });

  it('says the same wherever it is cut', () => {
    const expected = lines.join('\n');
    const near = starts.flatMap((at) => [at - 1, at, at + 1, at + 4, at + 7, at + 8, at + 9]);
    const odd = Array.from({ length: 100 }, (_, i) => Math.floor((i * stream.length) / 100));
    for (const cut of new Set([...near, ...odd])) {
      if (cut <= 0 || cut >= stream.length) continue;
      const got = eventsOf(stream, cut, stream.length).join('\n');
      if (got !== expected) expect(got, `cut at ${cut}`).toBe(expected);
    }
  });

  it('is all there: what is passed, and the pages as records, make the stream again', () => {
    const pieces: Buffer[] = [];
    const events = new Events();
    events.passed = (bytes) => pieces.push(Buffer.from(bytes));
    const records = roundsOf(kind).map(pageDataOf);
    events.pageData = () => pieces.push(records.shift()!);
    events.page = () => {};
    feedIn([777], stream, new XenStreamParser(events));
    expect(join(...pieces, GO).equals(stream)).toBe(true);
  });
});

describe('XenStreamParser', () => {
  it('tells what a stream holds, in order', () => {
    const lines = eventsOf(wholeStream('hvm')).map((line) => line.replace(/ \d+$/, ''));
    const told = lines.filter((line) => !/^(passed|page|config)/.test(line));
    expect(told).toEqual([
      'libxl 1',
      'libxc hvm',
      ...['libxc 17', 'libxc 18', 'libxc 16'],
      'libxc 2147483939', // passed though nobody knows it
      ...['libxc 8', 'libxc 10', 'libxc 9', 'libxc 0'],
      ...['libxl 2', 'libxl 3', 'libxl 0'],
      'end',
    ]);
  });

  it('gives the configuration as xl does', () => {
    expect(eventsOf(wholeStream('pv'))[0]).toBe(`config ${configOf('g1')}`);
  });

  it('has the sizes that Xen 4.17 sent of a PV guest', () => {
    const { parser, events } = collecting();
    parser.feed(prologueOf('pv'));
    expect(events.lines.filter((line) => line.startsWith('libxc'))).toEqual([
      'libxc pv',
      'libxc 2 8',
      'libxc 17 648',
      'libxc 18 32',
      'libxc 16 0',
      'libxc 3 32',
    ]);
  });

  it('reads the very bytes of a small stream', () => {
    // Written down here and not made by the builder: one table page, one page that is not there.
    const head = [
      '58656e20736176656420646f6d61696e2c20786c20666f726d61740a200020', // "Xen saved domain, xl format\n \0 "
      '0d0403020103000000000000000700000003000000', // "\r", byte order, mandatory, optional, length; length
      '7b7d00', // {} and NUL
      '4c6962786c466d740000000200000000', // LibxlFmt, 2, 0
      '0100000000000000', // LIBXC_CONTEXT
      'ffffffffffffffff58454e46000000030000000000000000', // marker, XENF, 3, options
      '01000000' + '0c000000' + '0400000011000000', // PV, 12, 4.17
      '01000000' + '18100000' + '0200000000000000', // PAGE_DATA of 4120 bytes, 2 pages
      '0700000000000090' + '08000000000000f0', // pfn 7, pinned L1; pfn 8, not there
    ].join('');
    const page = Buffer.alloc(PAGE, 0xab);
    const stream = join(Buffer.from(head, 'hex'), page, Buffer.alloc(16));
    expect(eventsOf(stream, 3).filter((line) => !line.startsWith('passed'))).toEqual([
      'config {}',
      'libxl 1 0',
      'libxc pv',
      'pages 2 7 8',
      expect.stringMatching(/^page 7 9 4096 /),
      'page 8 15 none',
      'pages end',
      'libxc 0 0',
      'libxl 0 0',
      'end',
    ]);
  });

  it('hands on whole pages where they are, and only cut ones as a copy', () => {
    const stream = join(prologueOf('hvm'), pageDataOf(pagesFrom(1, 3)));
    const seen: boolean[] = [];
    const events = new Events();
    events.page = (_pfn, _type, bytes) => seen.push(bytes!.buffer === stream.buffer);
    const parser = new XenStreamParser(events);
    const cut = stream.indexOf(Buffer.alloc(PAGE, 2)) + 100;
    parser.feed(stream.subarray(0, cut));
    parser.feed(stream.subarray(cut));
    expect(seen).toEqual([true, false, true]);
  });

  it('takes version 2 of libxc, records of libxl before the memory, and pages up to 16 TiB', () => {
    const head = join(xlHeader('{}'), libxlHeader(), record(0x8000_0001, Buffer.from('x')));
    const last = 2 ** 32 - 257;
    const memory = join(record(1), libxcHeaders(2, { version: 2 }), pageDataOf([[last, 0, 1]]));
    const lines = eventsOf(join(head, memory, END, END), 100);
    expect(lines).toContainEqual(expect.stringMatching(`^page ${last} 0 4096`));
    expect(lines.at(-1)).toBe('end');
  });

  it('passes VERIFY, with which a debugging xl begins to send all pages again', () => {
    const again = pageDataOf(pagesFrom(0, 4));
    const stream = join(prologueOf('pv'), again, record(0xd), again, tailOf('pv'));
    const lines = eventsOf(stream).filter((line) => /^(pages \d|libxc 13)/.test(line));
    expect(lines).toEqual(['pages 4 0 3', 'libxc 13 0', 'pages 4 0 3']);
  });

  it('throws what the sink threw, from then on', () => {
    const { parser, events } = collecting();
    const reason = new Error('no room');
    events.page = () => {
      throw reason;
    };
    const stream = wholeStream('pv');
    expect(() => parser.feed(stream)).toThrow(reason);
    expect(() => parser.feed(stream)).toThrow(reason);
  });

  it('stays refused', () => {
    const { parser } = collecting();
    expect(() => parser.feed(Buffer.alloc(48, 'GET / HTTP/1.1\r\n'))).toThrow('magic of xl');
    expect(() => parser.feed(wholeStream('pv'))).toThrow('magic of xl');
  });
});
