import { describe, expect, it } from 'vitest';
import {
  pong,
  ReturnPathParser,
  shut,
  switchoverAck,
} from '../../../lib/stream/qemu/return-path.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

function messagesOf(...pieces: Buffer[]) {
  const messages: object[] = [];
  const parser = new ReturnPathParser((message) => messages.push(message));
  for (const piece of pieces) parser.feed(piece);
  return messages;
}

/** What QEMU 7.2 and 10.0 send as destinations. */
const REAL = hex('0002 0004 00000001  0001 0004 00000000');

describe('return path', () => {
  it('writes what QEMU writes', () => {
    expect(Buffer.concat([pong(1), shut(0)])).toEqual(REAL);
    expect(shut(0xffff_ffff)).toEqual(hex('0001 0004 ffffffff'));
    expect(switchoverAck()).toEqual(hex('0007 0000'));
  });

  it('reads it, wherever it is cut', () => {
    const expected = [
      { type: 'pong', value: 1 },
      { type: 'shut', error: 0 },
    ];
    for (let cut = 0; cut <= REAL.length; cut++)
      expect(messagesOf(REAL.subarray(0, cut), REAL.subarray(cut))).toEqual(expected);
    expect(messagesOf(...Array.from(REAL, (byte) => Buffer.from([byte])))).toEqual(expected);
  });

  it.each([
    ['an unknown type', '0063 0004 00000000', 'message unknown (99) of 4 bytes'],
    ['a postcopy request', '0004 000c', 'message REQ_PAGES (4) of 12 bytes'],
    ['a PONG of 8 bytes', '0002 0008', 'message PONG (2) of 8 bytes'],
    ['anything after SHUT', '0001 0004 00000000 0002 0004 00000001', 'a message after SHUT'],
  ])('refuses %s', (_what, bytes, words) => {
    expect(() => messagesOf(hex(bytes))).toThrow(
      expect.objectContaining({ code: 'qemu-stream', message: expect.stringContaining(words) }),
    );
  });
});
