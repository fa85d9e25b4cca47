import { describe, expect, it } from 'vitest';
import { DeviceTail } from '../../../lib/stream/qemu/device-tail.ts';
import { CAPTURES, capture, REFUSED_CAPTURES } from './captures.ts';
import { collecting, eventsOf, feedIn } from './events.ts';
import { readNaively } from './naive-reader.ts';

const KIB = 1024;

describe.each(CAPTURES)('the stream of %s', (name) => {
  const stream = capture(name);
  const { lines, starts, end } = readNaively(stream);

  it('says what a second reader finds', () => {
    expect(eventsOf(stream)).toEqual(lines);
  });

  it('says the same when it comes byte by byte, and in odd pieces', () => {
    for (const pieces of [[1], [4095], [4096, 1], [13, 5000, 8]])
      expect(eventsOf(stream, ...pieces)).toEqual(lines);
  });

  it('says the same wherever it is cut', () => {
    const expected = lines.join('\n');
    for (const cut of cutsOf(stream, starts)) {
      const got = eventsOf(stream, cut, stream.length).join('\n');
      if (got !== expected) expect(got, `cut at ${cut}`).toBe(expected);
    }
  });

  it('has every page of every block once', () => {
    const blocks = lines.filter((line) => line.startsWith('block '));
    const bytes = blocks.reduce((sum, line) => sum + Number(line.split(' ')[2]), 0);
    const pages = lines.filter((line) => /^(page|zero) /.test(line));
    expect(new Set(pages.map((line) => line.split(' ').slice(1, 3).join())).size).toBe(
      bytes / 4096,
    );
  });

  it('has a prologue with the return path, and the machine', () => {
    const { parser, events } = collecting();
    parser.feed(stream);
    expect(events.lines.slice(0, 2)).toEqual(['command 1 ', 'command 2 00000001']);
    expect(parser.prologue).toEqual(stream.subarray(0, parser.prologue!.length));
    expect(parser.prologue!.toString('hex')).toMatch(/00000000000000107e[0-9a-f]{8}$/);
    expect(parser.machine).toMatch(/^(microvm|pc-(q35|i440fx)-\d+\.\d+)$/);
  });

  it('has a tail that is complete with its last byte and not before', () => {
    const bytewise = new DeviceTail();
    let at = end;
    while (!bytewise.complete && at < stream.length) bytewise.add(stream.subarray(at, ++at));
    expect(bytewise.complete).toBe(true);
    expect(at).toBe(stream.length);
  });
});

/** All positions of a small capture; of a large one those around its first and last tokens. */
function cutsOf(stream: Buffer, starts: readonly number[]): number[] {
  if (stream.length < 50 * KIB) return Array.from(stream.keys()).slice(1);
  const tokens = [...starts.slice(0, 100), ...starts.slice(-50)];
  const near = tokens.flatMap((at) => [at - 1, at, at + 1, at + 5, at + 8, at + 9]);
  return near.filter((at) => at > 0 && at < stream.length);
}

/** What each recording was made with, and the words that name it. */
const REASONS: Readonly<Record<string, string>> = {
  'refused-compress': 'compress must be off',
  'refused-dirty-bitmaps': 'POSTCOPY_ADVISE (3) with 0 bytes',
  'refused-ignore-shared': 'x-ignore-shared, which must be off',
  'refused-multifd': 'multifd must be off',
  'refused-postcopy': 'POSTCOPY_ADVISE (3) with 16 bytes',
  'refused-virtio-mem': 'section 0000:00:01.0/virtio-mem-device-early',
};

it('has a recording for each reason', () => {
  expect(REFUSED_CAPTURES).toEqual(Object.keys(REASONS));
});

it.each(Object.entries(REASONS))('%s is refused', (name, words) => {
  for (const pieces of [[], [1], [1000]]) {
    const { parser } = collecting();
    expect(() => feedIn(pieces, capture(name), parser)).toThrow(
      expect.objectContaining({ code: 'qemu-stream', message: expect.stringContaining(words) }),
    );
  }
});
