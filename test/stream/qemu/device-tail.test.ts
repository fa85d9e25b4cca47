import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceTail } from '../../../lib/stream/qemu/device-tail.ts';
import { join, tail, u8, u32 } from './builder.ts';

const MIB = 1024 * 1024;

function described(json: string): Buffer {
  return join(u8(0), u8(6), u32(Buffer.byteLength(json)), Buffer.from(json));
}

function completeAfter(...parts: Buffer[]): boolean[] {
  const device = new DeviceTail();
  return parts.map((part) => {
    device.add(part);
    return device.complete;
  });
}

describe('DeviceTail', () => {
  it('is complete with the last byte of the description', () => {
    const bytes = tail();
    const flags = completeAfter(...Array.from(bytes, (byte) => u8(byte)));
    expect(flags.indexOf(true)).toBe(bytes.length - 1);
  });

  it('is complete in whatever pieces it comes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }),
        (noise, pieces) => {
          const bytes = join(Buffer.from(noise), tail());
          const device = new DeviceTail();
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const length = pieces[i % pieces.length]!;
            const reused = Buffer.from(bytes.subarray(at, at + length));
            device.add(reused);
            reused.fill(0xee);
            at += length;
          }
          expect(device.complete).toBe(true);
        },
      ),
    );
  });

  it('is not misled by marks in the device state and in the length', () => {
    const forged = described('{"devices": 1}');
    expect(completeAfter(join(forged, tail()))).toEqual([true]);
    expect(completeAfter(join(Buffer.from([0, 6, 0, 6, 0, 6, 0x7b, 0]), tail()))).toEqual([true]);
    expect(completeAfter(join(Buffer.from([0, 6]), described('{"devices": []}')))).toEqual([true]);
    // Lengths of 0x0600 and 0x067b have bytes of a mark, and of JSON, in them.
    for (const length of [0x0600, 0x067b]) {
      const json = `{"devices": [${' '.repeat(length - 15)}]}`;
      expect(json).toHaveLength(length);
      expect(completeAfter(described(json))).toEqual([true]);
    }
  });

  it.each([
    ['other JSON', described('{"page_size": 4096}')],
    ['devices that are no list', described('{"devices": {}}')],
    ['broken JSON', described('{"devices": [}')],
    ['no description', join(u8(0), u8(6), u32(0))],
    ['no EOF before it', tail().subarray(tail().indexOf('{') - 5)],
    ['a byte after it', join(tail(), u8(0x7d))],
    ['nothing', Buffer.alloc(0)],
  ])('is not complete with %s', (_what, bytes) => {
    expect(completeAfter(bytes)).toEqual([false]);
  });

  it('goes on after an end that the guest forged', () => {
    expect(completeAfter(tail(), u8(1), tail())).toEqual([true, false, true]);
  });

  it('looks at each byte a fixed number of times, even when all could end it', () => {
    const device = new DeviceTail();
    const piece = join(Buffer.from([0, 6, 0, 0, 0, 1]), Buffer.from('{}'.repeat(50)));
    for (let i = 0; i < 100_000; i++) device.add(piece);
    expect(device.complete).toBe(false);
  });

  it('has a limit', () => {
    const device = new DeviceTail();
    const piece = Buffer.alloc(MIB);
    for (let i = 0; i < 256; i++) device.add(piece);
    expect(() => device.add(u8(0))).toThrow(
      expect.objectContaining({
        code: 'qemu-stream',
        message: 'QEMU sent more than 268435456 bytes of device state',
      }),
    );
  });
});
