import { describe, expect, it } from 'vitest';
import { StreamParser } from '../../../lib/stream/qemu/parser.ts';
import {
  command,
  configuration,
  header,
  join,
  OPEN_RETURN_PATH,
  PAGE,
  PING,
  PROLOGUE,
  page,
  ramEnd,
  ramPart,
  ramStart,
  SWITCHOVER_START,
  subsection,
  tail,
  u32,
  wholeStream,
  zero,
} from './builder.ts';
import { collecting, Events, eventsOf, feedIn } from './events.ts';
import { readNaively } from './naive-reader.ts';

describe('StreamParser', () => {
  it('tells what a stream holds, in order', () => {
    const lines = eventsOf(wholeStream()).map((line) => line.replace(/ 4096 \d+$/, ''));
    expect(lines.slice(0, -1)).toEqual([
      'command 1 ',
      'command 2 00000001',
      `block pc.ram ${8 * PAGE}`,
      `block pc.bios ${2 * PAGE}`,
      'page 0 0',
      'zero 0 4096',
      'page 0 8192',
      'page 0 12288',
      'zero 1 0',
      'page 1 4096',
      'page 1 4096',
      'page 0 28672',
      'ram ended',
    ]);
  });

  it('agrees with a second reader wherever the stream is cut', () => {
    const stream = wholeStream();
    const { lines } = readNaively(stream);
    for (let cut = 1; cut < stream.length; cut++)
      expect(eventsOf(stream, cut, stream.length), `cut at ${cut}`).toEqual(lines);
    expect(eventsOf(stream, 1)).toEqual(lines);
  });

  it('keeps the prologue and what stands before END, byte by byte', () => {
    for (const pieces of [[], [1], [7]]) {
      const { parser, events } = collecting();
      const stream = wholeStream();
      let known: Buffer | undefined;
      events.blocks = () => {
        known = parser.prologue;
      };
      feedIn(pieces, stream, parser);
      expect(known).toEqual(PROLOGUE);
      expect(parser.prologue).toEqual(PROLOGUE);
      expect(parser.beforeEnd).toEqual(SWITCHOVER_START);
      expect(parser.machine).toBe('pc-q35-7.2');
      expect(parser.ramSection).toEqual({ id: 2 });
      expect(parser.position).toBe(stream.length);
    }
  });

  it('has nothing before END when the source sends nothing there', () => {
    const { parser } = collecting();
    parser.feed(join(PROLOGUE, ramEnd()));
    expect(parser.beforeEnd).toHaveLength(0);
  });

  it('hands on whole pages where they are, and only cut ones as a copy', () => {
    const stream = join(PROLOGUE, ramPart([page(0, 1, 'pc.ram'), page(PAGE, 2), page(8192, 3)]));
    const own = (bytes: Buffer) => bytes.buffer === stream.buffer;
    const seen: boolean[] = [];
    const events = new Events();
    events.page = (_block, _offset, bytes) => seen.push(own(bytes));
    const parser = new StreamParser(events);
    const cut = stream.indexOf(Buffer.alloc(PAGE, 2)) + 100;
    parser.feed(stream.subarray(0, cut));
    parser.feed(stream.subarray(cut));
    expect(seen).toEqual([true, false, true]);
  });

  it('takes the uuid and the page size of the guest in the configuration', () => {
    const uuid = subsection('configuration/uuid', 1, Buffer.alloc(16, 9));
    const bits = subsection('configuration/target-page-bits', 1, u32(12));
    const stream = join(header(), configuration('x', bits, uuid), ramStart([]), ramEnd());
    for (const pieces of [[], [1]]) expect(eventsOf(stream, ...pieces)).toEqual(['ram ended']);
  });

  it('keeps CONTINUE and the block over sections', () => {
    const stream = join(
      PROLOGUE,
      ramPart([zero(0, 'pc.bios')]),
      ramPart([zero(PAGE)]),
      ramEnd([zero(0)]),
    );
    expect(eventsOf(stream).filter((line) => line.startsWith('zero'))).toEqual([
      'zero 1 0',
      'zero 1 4096',
      'zero 1 0',
    ]);
  });

  it('takes blocks larger than 4 GiB', () => {
    const length = 2 ** 40;
    const last = length - PAGE;
    const stream = join(
      header(),
      configuration(),
      ramStart([['m0', length]]),
      ramPart([page(2 ** 32 + PAGE, 1, 'm0'), zero(last)]),
      ramEnd(),
    );
    expect(eventsOf(stream)).toEqual(
      expect.arrayContaining([
        expect.stringContaining(`page 0 ${2 ** 32 + PAGE}`),
        `zero 0 ${last}`,
      ]),
    );
  });

  it('leaves the tail alone, whatever is in it', () => {
    const stream = join(PROLOGUE, ramEnd(), Buffer.from([1, 2, 3, 0x44]), tail());
    expect(eventsOf(stream).at(-1)).toMatch(`tail ${4 + tail().length}`);
  });

  it('throws what the sink threw, from then on', () => {
    const { parser, events } = collecting();
    const reason = new Error('no room');
    events.command = () => {
      throw reason;
    };
    expect(() => parser.feed(join(header(), configuration(), OPEN_RETURN_PATH, PING))).toThrow(
      reason,
    );
    expect(() => parser.feed(command(2, u32(3)))).toThrow(reason);
  });

  it('stays refused', () => {
    const { parser } = collecting();
    expect(() => parser.feed(Buffer.from('GET / HTTP/1.1\r\n'))).toThrow('magic');
    expect(() => parser.feed(wholeStream())).toThrow('magic');
  });
});
