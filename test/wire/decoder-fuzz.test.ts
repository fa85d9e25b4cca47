import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeBody, encodeBody } from '../../lib/wire/codec.ts';
import { FrameDecoder } from '../../lib/wire/decoder.ts';
import { type ConnectionKind, isLegal, KINDS, kindOf, type Side } from '../../lib/wire/kinds.ts';
import { frameOf, MESSAGES } from './arbitraries.ts';

const CODES = [
  'bad-magic',
  'bad-version',
  'bad-kind',
  'bad-checksum',
  'bad-message',
  'frame-too-large',
  'frame-out-of-order',
];

/** Valid frames of one direction of one connection, numbered as they must be. */
function validFrames(from: Side, connection: ConnectionKind): fc.Arbitrary<Buffer[]> {
  const kinds = KINDS.filter((kind) => isLegal(kind, from, connection) && kind.name !== 'Ack');
  const unnumbered = fc.constantFrom(...kinds).chain((kind) =>
    fc.record({
      name: fc.constant(kind.name),
      body: (MESSAGES[kind.name] as fc.Arbitrary<object>)
        .map((message) => encodeBody(kind.name, message as never))
        .filter((body) => body.length <= kind.body),
      payload: fc.uint8Array({ maxLength: Math.min(kind.payload, 300) }),
    }),
  );
  return fc.array(unnumbered, { minLength: 1, maxLength: 6 }).map((frames) => {
    let next = 0;
    return frames.map(({ name, body, payload }) =>
      frameOf(name, kindOf(name).numbered ? next++ : 0, body, payload),
    );
  });
}

/** Damage that a stream may take on its way or from a hostile peer. */
const damage = fc.oneof(
  fc.record({
    how: fc.constant('set' as const),
    at: fc.nat(),
    value: fc.integer({ min: 0, max: 255 }),
  }),
  fc.record({
    how: fc.constant('drop' as const),
    at: fc.nat(),
    value: fc.integer({ min: 1, max: 40 }),
  }),
  fc.record({
    how: fc.constant('double' as const),
    at: fc.nat(),
    value: fc.integer({ min: 1, max: 40 }),
  }),
  fc.record({
    how: fc.constant('insert' as const),
    at: fc.nat(),
    value: fc.integer({ min: 0, max: 255 }),
  }),
);

function damaged(stream: Buffer, { how, at, value }: { how: string; at: number; value: number }) {
  if (stream.length === 0) return stream;
  const offset = at % stream.length;
  const before = stream.subarray(0, offset);
  const rest = stream.subarray(offset);
  if (how === 'drop') return Buffer.concat([before, rest.subarray(value)]);
  if (how === 'double') return Buffer.concat([before, rest.subarray(0, value), rest]);
  if (how === 'insert') return Buffer.concat([before, Buffer.from([value]), rest]);
  return Buffer.concat([before, Buffer.from([value]), rest.subarray(1)]);
}

/** Feeds a stream in pieces; what came out, and the code it ended with. */
function decode(from: Side, connection: ConnectionKind, stream: Buffer, pieces: readonly number[]) {
  const frames: string[] = [];
  const decoder = new FrameDecoder(from, connection, ({ kind, sequence, body, payload }) => {
    decodeBody(kind, body);
    frames.push(`${kind} ${sequence} ${body.toString('hex')} ${payload.toString('hex')}`);
  });
  let code: string | undefined;
  try {
    for (let at = 0, i = 0; at < stream.length; i++) {
      const length = pieces[i % pieces.length]!;
      decoder.push(stream.subarray(at, at + length));
      at += length;
    }
  } catch (error) {
    code = (error as { code: string }).code;
  }
  return { frames, code, memory: decoder.memoryBytes, midFrame: decoder.midFrame };
}

const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 10 });

describe.each<[Side, ConnectionKind, bound: number]>([
  ['sender', 'control', 32 + 1024 * 1024 + 1024 * 1024],
  ['receiver', 'control', 32 + 65536],
  ['sender', 'data', 32 + 8192 + 1024 * 1024 + 65536],
  ['receiver', 'data', 32 + 4096 + 4096],
])('decoder for the %s of a %s connection', (from, connection, bound) => {
  it('yields a valid stream whatever the cuts', () => {
    fc.assert(
      fc.property(validFrames(from, connection), cuts, (frames, pieces) => {
        const result = decode(from, connection, Buffer.concat(frames), pieces);
        expect(result).toMatchObject({ code: undefined, midFrame: false });
        expect(result.frames).toHaveLength(frames.length);
      }),
    );
  });

  it('meets damage with a coded error or valid frames, the same whatever the cuts', () => {
    fc.assert(
      fc.property(
        validFrames(from, connection),
        fc.array(damage, { minLength: 1, maxLength: 3 }),
        cuts,
        (frames, hurts, pieces) => {
          const stream = hurts.reduce(damaged, Buffer.concat(frames));
          const whole = decode(from, connection, stream, [stream.length + 1]);
          const cut = decode(from, connection, stream, pieces);
          expect([cut.frames, cut.code]).toEqual([whole.frames, whole.code]);
          if (whole.code !== undefined) expect(CODES).toContain(whole.code);
          expect(Math.max(cut.memory, whole.memory)).toBeLessThanOrEqual(bound);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('refuses noise within the first header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 500 }), cuts, (noise, pieces) => {
        const result = decode(from, connection, Buffer.from(noise), pieces);
        expect(result).toMatchObject({ frames: [], code: 'bad-magic', memory: expect.any(Number) });
        expect(result.memory).toBeLessThanOrEqual(32);
      }),
    );
  });
});
