import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  answer,
  type HelperMessage,
  HelperMessages,
  REFUSED,
} from '../../../lib/stream/xen/helper-messages.ts';

/** As libxl_save_msgs_gen.pl has libxl-save-helper write them, in the order of a save. */
const VECTORS: readonly [hex: string, message: HelperMessage][] = [
  [
    // log: level, errno, "libxl-save-helper", "starting save"
    `3200 0100 02000000 00000000 12000000 ${text('libxl-save-helper')} 0e000000 ${text('starting save')}`,
    { type: 'other' },
  ],
  [
    // progress: "xc", "Frames iteration 0", 1024 of 24576
    `3000 0200 03000000 ${text('xc')} 13000000 ${text('Frames iteration 0')} 0004000000000000 0060000000000000`,
    { type: 'progress', what: 'Frames iteration 0', done: 1024, total: 24576 },
  ],
  // switch_qemu_logdirty of domain 5, on
  ['0a00 0700 05000000 01000000', { type: 'question' }],
  ['0200 0300', { type: 'suspend' }],
  // complete: -1, EBADF
  ['0a00 0a00 ffffffff 09000000', { type: 'complete', code: -1 }],
];

function text(words: string): string {
  return Buffer.from(`${words}\0`).toString('hex');
}

function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

function read(pieces: readonly Buffer[]): { messages: HelperMessage[]; passed: Buffer } {
  const messages: HelperMessage[] = [];
  const passed: Buffer[] = [];
  const reader = new HelperMessages((message, bytes) => {
    messages.push(message);
    passed.push(Buffer.from(bytes));
  });
  for (const piece of pieces) reader.feed(piece);
  return { messages, passed: Buffer.concat(passed) };
}

describe('what a save helper says', () => {
  const all = Buffer.concat(VECTORS.map(([hex]) => bytesOf(hex)));
  const expected = VECTORS.map(([, message]) => message);

  it('is read, and passed on byte by byte', () => {
    expect(read([all])).toEqual({ messages: expected, passed: all });
  });

  it('is read cut anywhere', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(all.length), { maxLength: 8 }), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), all.length];
        const pieces = at.slice(1).map((end, i) => all.subarray(at[i], end));
        expect(read(pieces)).toEqual({ messages: expected, passed: all });
      }),
    );
  });

  it.each([
    ['a message without a number', '0100 03'],
    ['a message that is too short', '0400 0200 0300'],
    ['a message that is too short', '0800 0200 ffffffff 7863'],
    ['a message that is too long', '0300 0300 00'],
    ['a text without an end', '0900 0200 03000000 786378'],
  ])('is refused: %s', (what, hex) => {
    expect(() => read([bytesOf(hex)])).toThrowError(
      expect.objectContaining({ code: 'xen-stream' }),
    );
    expect(() => read([bytesOf(hex)])).toThrow(what);
  });

  it('is answered by an int', () => {
    expect(answer(-1).toString('hex')).toBe('ffffffff');
    expect(REFUSED.toString('hex')).toBe('00000000');
  });
});
