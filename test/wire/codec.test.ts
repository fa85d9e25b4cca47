import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeBody, encodeBody } from '../../lib/wire/codec.ts';
import { KINDS, type KindName } from '../../lib/wire/kinds.ts';
import { MESSAGES } from './arbitraries.ts';
import { readMessage, readSchema } from './naive-reader.ts';

const source = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const schema = readSchema(source('proto/godwit.proto'));
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const badMessage = (text: RegExp) =>
  expect.objectContaining({
    name: 'GodwitError',
    code: 'bad-message',
    message: expect.stringMatching(text),
  });

const BATCH = {
  round: 2,
  chunk: 1000,
  offsetDelta: [5, 3],
  encodings: hex('0100'),
  hashes: hex('1122334455667788 ffffffffffffffff'),
  copyOf: [4],
  rawCompressed: true,
  rawLength: 5,
  deltaLength: 3,
};
const BATCH_BYTES =
  '0802 10e807 1a020503 22020100 2a101122334455667788ffffffffffffffff 320104 3801 4005 4803';

describe('codec', () => {
  it('writes and reads a page batch as the vector says', () => {
    expect(Buffer.from(encodeBody('PageBatch', BATCH))).toEqual(hex(BATCH_BYTES));
    const plain = {
      ...BATCH,
      encodings: new Uint8Array(BATCH.encodings),
      hashes: new Uint8Array(BATCH.hashes),
    };
    expect(decodeBody('PageBatch', hex(BATCH_BYTES))).toEqual(plain);
  });

  it.each(KINDS.map(({ name }) => name))(
    '%s survives the way, and reads naively the same',
    (kind) => {
      fc.assert(
        fc.property(MESSAGES[kind] as fc.Arbitrary<object>, (message) => {
          const body = encodeBody(kind, message as never);
          expect(decodeBody(kind, body)).toEqual(message);
          expect(readMessage(schema, kind, body)).toEqual(message);
        }),
      );
    },
  );

  it('hands out nothing that refers to the frame', () => {
    const body = Buffer.from(
      encodeBody('LaneOpen', { migration: 'm', lane: 1, secret: hex('0a0b'), received: 0 }),
    );
    const { secret } = decodeBody('LaneOpen', body);
    body.fill(0);
    expect(secret).toEqual(new Uint8Array([10, 11]));
  });

  it('drops fields of a later version', () => {
    expect(decodeBody('Commit', hex('0807 7a03616263 f80701'))).toEqual({
      epoch: 7,
      seal: new Uint8Array(0),
    });
  });

  it.each<[KindName, string, unknown, RegExp]>([
    ['Commit', 'epoch', '7', /Commit message: epoch is not an integer from 0 to 2\^53 - 1/],
    ['Commit', 'epoch', -1, /epoch is not .*: -1/],
    ['Commit', 'epoch', 2 ** 53, /epoch/],
    ['Commit', 'epoch', undefined, /epoch .*undefined/],
    ['Suspend', 'limitMs', 2 ** 32, /Suspend message: limitMs is not an unsigned 32-bit integer/],
    ['Suspend', 'limitMs', 0.5, /limitMs/],
    ['StatePart', 'hash', 1, /hash is not a 64-bit bigint: 1/],
    ['StatePart', 'hash', 2n ** 64n, /hash/],
    ['StatePart', 'hash', -1n, /hash/],
    ['Digest', 'lane', [1n, 2], /lane is not a 64-bit bigint: 2/],
    ['Digest', 'lane', 1n, /lane is not an array/],
    ['RoundEnd', 'cutShort', 1, /cutShort is not a boolean/],
    ['Running', 'resumeMs', Number.NaN, /resumeMs is not a finite number/],
    ['Abort', 'text', '\ud800', /text is not a well-formed string/],
    ['Abort', 'text', null, /text .*null/],
    ['LaneOpen', 'secret', 'secret', /secret is not a Uint8Array/],
    ['Hello', 'limits', undefined, /limits is not a message/],
    ['Hello', 'limits', { lanes: 1, batchPayload: 'x', window: 1 }, /limits batchPayload is not/],
    ['PageBatch', 'offsetDelta', [1, -1], /offsetDelta/],
  ])('does not encode %s with %s = %s', (kind, field, value, text) => {
    const [message] = fc.sample(MESSAGES[kind] as fc.Arbitrary<object>, { numRuns: 1, seed: 1 });
    expect(() => encodeBody(kind, { ...message, [field]: value } as never)).toThrow(
      badMessage(text),
    );
  });

  it.each<[string, KindName, string, RegExp]>([
    ['a cut varint', 'Commit', '08ff', /bad Commit message/],
    ['a cut string', 'Abort', '0a05 6162', /bad Abort message/],
    ['text that is not UTF-8', 'Abort', '0a02 c328', /bad Abort message/],
    ['field number 0', 'Commit', '0000', /bad Commit message/],
    ['a group without end', 'Commit', '7b', /bad Commit message/],
    ['an epoch above 2^53 - 1', 'Commit', '08 80808080808080 10', /epoch is not/],
    ['a double that is no number', 'Running', '11 000000000000f87f', /resumeMs is not a finite/],
    ['Limits left out', 'Hello', '0801', /limits is not there/],
    ['an endless varint', 'Commit', '08 ffffffffffffffffffffff01', /bad Commit message/],
  ])('refuses %s', (_, kind, body, text) => {
    expect(() => decodeBody(kind, hex(body))).toThrow(badMessage(text));
  });

  it('answers any bytes with a message or bad-message', () => {
    const kinds = fc.constantFrom(...KINDS.map(({ name }) => name));
    fc.assert(
      fc.property(kinds, fc.uint8Array({ maxLength: 200 }), (kind, body) => {
        try {
          encodeBody(kind, decodeBody(kind, body) as never);
        } catch (error) {
          expect(error).toMatchObject({ code: 'bad-message' });
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('messages.ts', () => {
  const TYPES: Record<string, string> = {
    uint32: 'number',
    uint64: 'number',
    double: 'number',
    fixed64: 'bigint',
    string: 'string',
    bool: 'boolean',
    bytes: 'Uint8Array',
  };
  const typescript = source('lib/wire/messages.ts') + source('lib/memory/guest-layout.ts');

  it('says what godwit.proto says, field for field', () => {
    const declared = new Map<string, string[]>([['Ballast', []]]);
    for (const [, name, body] of typescript.matchAll(/^export interface (\w+) \{\n([^}]*)\}/gm))
      declared.set(
        name!,
        [...body!.matchAll(/^ {2}readonly (\w+: [^;]+);/gm)].map(([, field]) => field!),
      );
    expect(schema.size).toBeGreaterThan(KINDS.length);
    for (const [message, fields] of schema) {
      const expected = fields.map(({ name, type, repeated }) => {
        const one = TYPES[type] ?? type;
        return `${name}: ${repeated ? `readonly ${one}[]` : one}`;
      });
      expect(declared.get(message), message).toEqual(expected);
    }
  });
});
