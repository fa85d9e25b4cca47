import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { frameHead, readHeader } from '../../lib/wire/frame.ts';
import { KINDS, kindOf } from '../../lib/wire/kinds.ts';
import { readFrames } from './naive-reader.ts';

/** Ping { cookie: 300 }, the first frame of its direction, written by hand from WIRE.md. */
const PING = '47445754 01 13 0000 03000000 00000000 0000000000000000 00000000 2afbcf77' + ' 08ac02';
/** Verdict { 3, "abort", "why" }: an optional kind, sequence 7. */
const VERDICT =
  '47445754 01 08 0100 0e000000 00000000 0700000000000000 00000000 26c8e1cc' +
  ' 0803 120561626f7274 1a03776879';
/** An acknowledgement of frame 513: all header. */
const ACK = '47445754 01 23 0000 00000000 00000000 0102000000000000 00000000 9717c4b2';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** A copy with one byte of it changed. */
function changed(frame: Buffer, offset: number, value: number): Buffer {
  const copy = Buffer.from(frame);
  copy[offset] = value;
  return copy;
}

describe('frame header', () => {
  it('is written as the vectors say', () => {
    expect(frameHead(kindOf('Ping'), 0, hex('08ac02'), 0)).toEqual(hex(PING));
    expect(frameHead(kindOf('Ack'), 513, hex(''), 0)).toEqual(hex(ACK));
    const verdict = hex(VERDICT);
    expect(frameHead(kindOf('Verdict'), 7, verdict.subarray(32), 0)).toEqual(verdict);
  });

  it('is read as the vectors say', () => {
    expect(readHeader(hex(PING))).toEqual({
      kind: kindOf('Ping'),
      bodyLength: 3,
      payloadLength: 0,
      sequence: 0,
      crc: 0x77cffb2a,
    });
    expect(readHeader(hex(ACK))).toMatchObject({ kind: kindOf('Ack'), sequence: 513 });
  });

  it('agrees with the naive reader, also on a sequence above 32 bits', () => {
    const sequence = 2 ** 40 + 7;
    const head = frameHead(kindOf('StatePart'), sequence, hex('08ac02'), 5);
    const [frame] = readFrames(Buffer.concat([head, hex('0102030405')]));
    expect(frame).toMatchObject({ kind: 37, flags: 0, sequence: BigInt(sequence) });
    expect(Buffer.from(frame!.payload)).toEqual(hex('0102030405'));
    expect(readHeader(head)).toMatchObject({ sequence, bodyLength: 3, payloadLength: 5 });
  });

  it.each([
    ['another protocol', 0, 0x48, 'bad-magic'],
    ['another version', 4, 2, 'bad-version'],
    ['an unknown kind', 5, 99, 'bad-kind'],
    ['reserved flag 1', 6, 2, 'bad-message'],
    ['reserved flag 15', 7, 0x80, 'bad-message'],
    ['a long body', 8, 65, 'frame-too-large'],
    ['a body of 4 GiB', 11, 0xff, 'frame-too-large'],
    ['a payload where none belongs', 12, 1, 'frame-too-large'],
    ['the reserved word', 27, 1, 'bad-message'],
  ])('refuses %s', (_, offset, value, code) => {
    expect(() => readHeader(changed(hex(PING), offset, value))).toThrow(
      expect.objectContaining({ name: 'GodwitError', code }),
    );
  });

  it('takes an unknown optional kind with a body of 64 KiB and no more', () => {
    const unknown = changed(changed(hex(VERDICT), 5, 99), 8, 0);
    expect(readHeader(changed(unknown, 10, 1))).toMatchObject({
      kind: undefined,
      bodyLength: 65536,
    });
    const tooLarge = expect.objectContaining({ code: 'frame-too-large' });
    expect(() => readHeader(changed(changed(unknown, 10, 1), 8, 1))).toThrow(tooLarge);
    expect(() => readHeader(changed(unknown, 12, 1))).toThrow(tooLarge);
  });

  it('does not write what the limits forbid', () => {
    const tooLarge = expect.objectContaining({ code: 'frame-too-large' });
    expect(() => frameHead(kindOf('Ping'), 0, Buffer.alloc(65), 0)).toThrow(tooLarge);
    expect(() => frameHead(kindOf('StatePart'), 0, hex(''), 2 ** 18 + 1)).toThrow(tooLarge);
  });
});

describe('kinds table', () => {
  it('is the table in WIRE.md', () => {
    const document = readFileSync(new URL('../../proto/WIRE.md', import.meta.url), 'utf8');
    const rows = document.matchAll(
      /^\| (\d+) \| (\*?)(\w+)\*?( \(optional\))? \| (.+?) \| (.+?) \| (.+?) \|$/gm,
    );
    const documented = [...rows].map(
      ([, number, italics, name, optional, direction, body, payload]) => ({
        name,
        number: Number(number),
        from: direction!.startsWith('S→R')
          ? 'sender'
          : direction!.startsWith('R→S')
            ? 'receiver'
            : 'both',
        connection: direction!.includes('control and data') ? 'both' : direction!.split(/[ ,]+/)[1],
        body: bytesOf(body!),
        payload: bytesOf(payload!),
        optional: optional !== undefined,
        numbered: italics === '*',
      }),
    );
    expect(documented).toEqual(KINDS);
  });
});

/** "1 MiB + 64 KiB" in bytes. */
function bytesOf(text: string): number {
  const units: Record<string, number> = { KiB: 1024, MiB: 1024 * 1024 };
  return text
    .split(' + ')
    .map((term) => term.split(' '))
    .reduce((sum, [number, unit]) => sum + Number(number) * (units[unit ?? ''] ?? 1), 0);
}
