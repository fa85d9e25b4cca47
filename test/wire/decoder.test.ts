import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { decodeBody, encodeBody } from '../../lib/wire/codec.ts';
import { FrameDecoder } from '../../lib/wire/decoder.ts';
import type { ConnectionKind, Side } from '../../lib/wire/kinds.ts';
import { frameOf } from './arbitraries.ts';
import { readFrames } from './naive-reader.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const coded = (code: string) => expect.objectContaining({ name: 'GodwitError', code });

/** PageBatch, sequence 0, with a payload of 8 bytes; its crc is of another program. */
const BATCH = hex(
  '47445754 01 22 0000 28000000 08000000 0000000000000000 00000000 0029138c' +
    '0802 10e807 1a020503 22020100 2a101122334455667788ffffffffffffffff 320104 3801 4005 4803' +
    'aabbccddee 010203',
);

interface Got {
  kind: string;
  sequence: number;
  body: Buffer;
  payload: Buffer;
}

/** A decoder that keeps copies of what it yields. */
function collecting(from: Side = 'sender', connection: ConnectionKind = 'control') {
  const got: Got[] = [];
  const decoder = new FrameDecoder(from, connection, (frame) => {
    got.push({ ...frame, body: Buffer.from(frame.body), payload: Buffer.from(frame.payload) });
  });
  return { decoder, got };
}

function pushIn(pieces: number, stream: Buffer, decoder: FrameDecoder) {
  for (let at = 0; at < stream.length; at += pieces) decoder.push(stream.subarray(at, at + pieces));
}

/** The stream of a lane with every shape of frame: no body, payload, unknown, optional. */
function laneStream(): Buffer {
  const unknown = Buffer.from(frameOf('Verdict', 2, Buffer.alloc(300, 7)));
  unknown[5] = 200;
  const part = encodeBody('StatePart', { offset: 2 ** 18, hash: 1n });
  return Buffer.concat([
    frameOf('Ballast', 0),
    frameOf('StatePart', 1, part, hex('0102030405060708ff')),
    withCrc(unknown),
    frameOf('StatePart', 3, part),
    frameOf('StatePart', 4, hex(''), hex('77')),
  ]);
}

describe('FrameDecoder', () => {
  it('yields the vector', () => {
    const { decoder, got } = collecting('sender', 'data');
    decoder.push(BATCH);
    expect(got).toMatchObject([{ kind: 'PageBatch', sequence: 0 }]);
    expect(got[0]!.payload).toEqual(hex('aabbccddee010203'));
    expect(decodeBody('PageBatch', got[0]!.body)).toMatchObject({ chunk: 1000, rawLength: 5 });
    expect(decoder.midFrame).toBe(false);
  });

  it('yields the same frames wherever the stream is cut', () => {
    const stream = laneStream();
    const expected = readFrames(stream)
      .filter(({ kind }) => kind !== 200)
      .map(({ sequence, body, payload }) => ({
        sequence: Number(sequence),
        body: Buffer.from(body),
        payload: Buffer.from(payload),
      }));
    expect(expected).toHaveLength(4);
    for (let cut = 0; cut <= stream.length; cut++) {
      const { decoder, got } = collecting('sender', 'data');
      decoder.push(stream.subarray(0, cut));
      decoder.push(stream.subarray(cut));
      expect(got).toMatchObject(expected);
      expect(decoder.midFrame).toBe(false);
    }
    for (const pieces of [1, 2, 3, 31, 32, 33]) {
      const { decoder, got } = collecting('sender', 'data');
      pushIn(pieces, stream, decoder);
      expect(got).toMatchObject(expected);
    }
  });

  it('takes no more memory than its frames need', () => {
    const { decoder } = collecting('sender', 'data');
    decoder.push(frameOf('Ballast', 0));
    expect(decoder.memoryBytes).toBe(32);
    pushIn(1, frameOf('StatePart', 1, hex('0807')), decoder);
    pushIn(1, frameOf('StatePart', 2, hex(''), hex('010203')), decoder);
    expect(decoder.memoryBytes).toBeLessThanOrEqual(32 + 2 * 8);
  });

  it('takes a payload that was read to its place as it takes any other', () => {
    const stream = laneStream();
    const expected = collecting('sender', 'data');
    expected.decoder.push(stream);
    for (const pieces of [1, 2, 5, 31, 33, 1000]) {
      const { decoder, got } = collecting('sender', 'data');
      let placed = 0;
      for (let at = 0; at < stream.length; ) {
        const { place } = decoder;
        const input = (place ?? Buffer.alloc(pieces)).subarray(0, pieces);
        const length = stream.copy(input, 0, at, at + input.length);
        decoder.push(input.subarray(0, length));
        if (place) placed += length;
        at += length;
      }
      expect(got).toEqual(expected.got);
      if (pieces === 1) expect(placed).toBe(9 + 1);
      if (pieces === 1000) expect(placed).toBe(0);
    }
  });

  it('knows when a stream ends inside a frame', () => {
    for (let cut = 1; cut < BATCH.length; cut++) {
      const { decoder, got } = collecting('sender', 'data');
      decoder.push(BATCH.subarray(0, cut));
      expect([decoder.midFrame, got.length]).toEqual([true, 0]);
    }
  });

  it('reads megabytes in socket-sized pieces into one buffer', () => {
    const payload = Buffer.alloc(MIB, 'pages');
    const { decoder, got } = collecting('sender', 'data');
    for (let i = 0; i < 4; i++)
      pushIn(64 * KIB - 1, frameOf('PageBatch', i, hex(''), payload), decoder);
    expect(got.map(({ payload: p }) => p.equals(payload))).toEqual([true, true, true, true]);
    expect(decoder.memoryBytes).toBeLessThanOrEqual(32 + 8 * KIB + MIB + 64 * KIB);
  });
});

describe('FrameDecoder refuses', () => {
  const ping = (sequence: number) => frameOf('Ping', sequence, hex('08ac02'));
  const commit = (sequence: number) => frameOf('Commit', sequence, hex('0801'));

  it.each<[string, Buffer, string]>([
    ['another magic', changed(ping(0), 3, 0), 'bad-magic'],
    ['another version', changed(ping(0), 4, 9), 'bad-version'],
    ['an unknown kind', changed(ping(0), 5, 77), 'bad-kind'],
    ['a page batch on the control connection', frameOf('PageBatch', 0), 'bad-kind'],
    ['a frame of its own direction', frameOf('Welcome', 0), 'bad-kind'],
    ['reserved bits', changed(ping(0), 25, 1), 'bad-message'],
    ['a body beyond the limit', changed(ping(0), 10, 1), 'frame-too-large'],
    ['a payload beyond the limit', changed(ping(0), 13, 1), 'frame-too-large'],
    ['a damaged body', changed(ping(0), 33, 0xad), 'bad-checksum'],
    ['a damaged checksum', changed(ping(0), 28, 0), 'bad-checksum'],
    ['a damaged sequence', changed(ping(0), 16, 1), 'bad-checksum'],
    ['a first numbered frame that is not 0', commit(1), 'frame-out-of-order'],
    ['a number where none belongs', ping(1), 'frame-out-of-order'],
    ['a frame twice', Buffer.concat([commit(0), commit(0)]), 'frame-out-of-order'],
    ['a gap', Buffer.concat([commit(0), commit(2)]), 'frame-out-of-order'],
    ['a sequence beyond 2^53', withCrc(changed(ping(0), 23, 0xff)), 'frame-out-of-order'],
  ])('%s', (_, stream, code) => {
    for (const pieces of [stream.length, 1]) {
      const { decoder } = collecting();
      expect(() => pushIn(pieces, stream, decoder)).toThrow(coded(code));
    }
  });

  it('anything after the first bad byte, with the first reason', () => {
    const { decoder, got } = collecting();
    const stream = Buffer.concat([ping(0), changed(ping(1), 0, 0), ping(2)]);
    expect(() => decoder.push(stream)).toThrow(coded('bad-magic'));
    expect(() => decoder.push(ping(1))).toThrow(coded('bad-magic'));
    expect(got).toHaveLength(1);
  });

  it('more input after its consumer has failed', () => {
    const decoder = new FrameDecoder('sender', 'control', () => {
      throw new RangeError('consumer');
    });
    expect(() => decoder.push(ping(0))).toThrow(/consumer/);
    expect(() => decoder.push(ping(1))).toThrow(/consumer/);
  });

  it('a length before it keeps one byte', () => {
    const { decoder } = collecting('sender', 'data');
    const batch = changed(BATCH, 11, 0xff);
    expect(() => decoder.push(batch.subarray(0, 32))).toThrow(coded('frame-too-large'));
    expect(decoder.memoryBytes).toBe(32);
  });

  it('a wrong kind before it keeps one byte', () => {
    const { decoder } = collecting('sender', 'control');
    expect(() => decoder.push(BATCH.subarray(0, 32))).toThrow(coded('bad-kind'));
    expect(decoder.memoryBytes).toBe(32);
  });
});

describe('FrameDecoder and acknowledgements', () => {
  it('takes rising ones, which use up no number of their own', () => {
    const { decoder, got } = collecting('receiver', 'data');
    const ready = frameOf('LaneReady', 0);
    const abort = frameOf('Abort', 0);
    decoder.push(Buffer.concat([ready, frameOf('Ack', 1), frameOf('Ack', 5), abort]));
    expect(got.map(({ kind, sequence }) => `${kind} ${sequence}`)).toEqual([
      'LaneReady 0',
      'Ack 1',
      'Ack 5',
      'Abort 0',
    ]);
  });

  it.each([
    ['the same twice', 5],
    ['an earlier one', 4],
  ])('refuses %s', (_, second) => {
    const { decoder } = collecting('receiver', 'data');
    decoder.push(frameOf('Ack', 5));
    expect(() => decoder.push(frameOf('Ack', second))).toThrow(coded('frame-out-of-order'));
  });
});

describe('FrameDecoder and unknown optional kinds', () => {
  const unknown = (sequence: number, bytes: number) =>
    withCrc(changed(withLength(frameOf('Verdict', sequence), Buffer.alloc(bytes, 3)), 5, 201));

  it('skips them without keeping their body, whatever the cuts', () => {
    const stream = Buffer.concat([unknown(0, 64 * KIB), unknown(1, 0), frameOf('Suspend', 2)]);
    for (const pieces of [stream.length, 1000, 1]) {
      const { decoder, got } = collecting();
      pushIn(pieces, stream, decoder);
      expect(got.map(({ kind }) => kind)).toEqual(['Suspend']);
      expect(decoder.memoryBytes).toBe(32);
    }
  });

  it('still checks their checksum and their number', () => {
    const damaged = collecting().decoder;
    expect(() => damaged.push(changed(unknown(0, 100), 60, 4))).toThrow(coded('bad-checksum'));
    const late = collecting().decoder;
    expect(() => late.push(unknown(1, 100))).toThrow(coded('frame-out-of-order'));
  });
});

function changed(frame: Buffer, offset: number, value: number): Buffer {
  const copy = Buffer.from(frame);
  copy[offset] = value;
  return copy;
}

/** A bodyless frame with a body, whatever the limits of its kind. */
function withLength(frame: Buffer, body: Buffer): Buffer {
  const copy = Buffer.concat([frame, body]);
  copy.writeUInt32LE(body.length, 8);
  return copy;
}

/** The frame with a checksum that fits what was changed; for frames without payload. */
function withCrc(frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  copy.writeUInt32LE(crc32(copy.subarray(32), crc32(copy.subarray(0, 28))), 28);
  return copy;
}
