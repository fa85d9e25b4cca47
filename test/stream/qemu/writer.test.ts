import { AssertionError } from 'node:assert';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';
import { StreamParser } from '../../../lib/stream/qemu/parser.ts';
import { type PageRecord, StreamWriter } from '../../../lib/stream/qemu/writer.ts';
import {
  BLOCKS,
  join,
  PAGE,
  PROLOGUE,
  page,
  ramEnd,
  ramPart,
  SWITCHOVER_START,
  tail,
  zero,
} from './builder.ts';
import { CAPTURES, capture } from './captures.ts';
import { collecting, Events, eventsOf } from './events.ts';

const filled = (fill: number) => Buffer.alloc(PAGE, fill);

/** Pages of the blocks of the builder's prologue. */
const record: fc.Arbitrary<PageRecord> = fc.constantFrom(...BLOCKS).chain(([block, length]) =>
  fc.record(
    {
      block: fc.constant(block),
      offset: fc.nat(length / PAGE - 1).map((number) => number * PAGE),
      bytes: fc.nat(255).map(filled),
    },
    { requiredKeys: ['block', 'offset'] },
  ),
);

function namesOf(events: readonly string[]): PageRecord[] {
  return events.flatMap((line) => {
    const [kind, block, offset] = line.split(' ');
    if (kind !== 'page' && kind !== 'zero') return [];
    return [{ block: BLOCKS[Number(block)]![0], offset: Number(offset) }];
  });
}

describe('StreamWriter', () => {
  it('writes the bytes that QEMU reads', () => {
    const writer = new StreamWriter(2);
    const records = [
      { block: 'pc.ram', offset: 0, bytes: filled(1) },
      { block: 'pc.ram', offset: PAGE },
      { block: 'pc.bios', offset: PAGE },
      { block: 'pc.ram', offset: 2 * PAGE, bytes: filled(2) },
    ];
    expect(join(writer.part(records))).toEqual(
      ramPart([page(0, 1, 'pc.ram'), zero(PAGE), zero(PAGE, 'pc.bios'), page(8192, 2, 'pc.ram')]),
    );
    expect(join(writer.part([]))).toEqual(ramPart([]));
    const next = { block: 'pc.ram', offset: 2 ** 40 + PAGE };
    expect(join(writer.part([next]))).toEqual(ramPart([zero(2 ** 40 + PAGE)]));
    expect(join(writer.end(SWITCHOVER_START))).toEqual(join(SWITCHOVER_START, ramEnd()));
    expect(join(writer.end(Buffer.alloc(0)))).toEqual(ramEnd());
  });

  it('uses its memory again', () => {
    const writer = new StreamWriter(2);
    const record = (fill: number) => ({ block: 'pc.ram', offset: 0, bytes: filled(fill) });
    const first = writer.part([record(1), record(2)]);
    const second = writer.part([record(3)]);
    expect(second.buffer).toBe(first.buffer);
    expect(writer.end(SWITCHOVER_START).buffer).toBe(first.buffer);
    expect(writer.part([record(1), record(2), record(3)])).toHaveLength(
      first.length + 8 + PAGE - 7,
    );
  });

  it('takes only whole pages', () => {
    const writer = new StreamWriter(2);
    const bytes = Buffer.alloc(PAGE - 1);
    expect(() => writer.part([{ block: 'a', offset: 0, bytes }])).toThrow(AssertionError);
    expect(() => writer.part([{ block: 'a', offset: 1 }])).toThrow(AssertionError);
  });

  it('is read back as it was given', () => {
    fc.assert(
      fc.property(fc.array(fc.array(record, { maxLength: 8 }), { maxLength: 5 }), (parts) => {
        const writer = new StreamWriter(2);
        const written = parts.map((records) => Buffer.from(writer.part(records)));
        const { parser, events } = collecting();
        const contents: (number | undefined)[] = [];
        events.page = (block, offset, bytes, at) => {
          events.lines.push(`page ${block} ${offset}`);
          contents.push(bytes[at]);
        };
        parser.feed(join(PROLOGUE, ...written, writer.end(SWITCHOVER_START), tail()));
        const given = parts.flat();
        expect(namesOf(events.lines)).toEqual(
          given.map(({ block, offset }) => ({ block, offset })),
        );
        expect(contents).toEqual(given.flatMap(({ bytes }) => (bytes ? [bytes[0]] : [])));
        expect(parser.beforeEnd).toEqual(SWITCHOVER_START);
      }),
    );
  });

  it.each(CAPTURES)('regenerates the stream of %s', (name) => {
    const source = capture(name);
    const regenerated = regenerate(source);
    expect(eventsOf(regenerated)).toEqual(eventsOf(source));
    // One PART where QEMU had several, and CONTINUE wherever it can be.
    expect(regenerated.length).toBeLessThanOrEqual(source.length);
  });
});

/** The way through Godwit, without its workers: what the parser says, written again. */
function regenerate(source: Buffer): Buffer {
  const records: PageRecord[] = [];
  const tails: Buffer[] = [];
  let names: string[] = [];
  const parser = new StreamParser(
    Object.assign(new Events(), {
      blocks: (blocks: readonly { name: string }[]) => {
        names = blocks.map((block) => block.name);
      },
      page: (block: number, offset: number, bytes: Buffer, at: number) => {
        records.push({ block: names[block]!, offset, bytes: bytes.subarray(at, at + PAGE_SIZE) });
      },
      zero: (block: number, offset: number) => records.push({ block: names[block]!, offset }),
      tail: (bytes: Buffer) => tails.push(bytes),
    }),
  );
  parser.feed(source);
  const writer = new StreamWriter(parser.ramSection!.id);
  const part = Buffer.from(writer.part(records));
  return join(parser.prologue!, part, writer.end(parser.beforeEnd), ...tails);
}
