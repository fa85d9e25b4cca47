import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import { GodwitError } from '../errors.ts';
import type { KindName } from './kinds.ts';
import type { JournalRecord, Messages } from './messages.ts';
import { demand, SCALARS, type Scalar } from './scalars.ts';

const PROTO = new URL('../../proto/godwit.proto', import.meta.url);
const schema = protobuf.parse(readFileSync(PROTO, 'utf8')).root.resolveAll();
const codecs = new Map<string, MessageCodec>();

/**
 * The protobuf bytes of a message.
 * @throws GodwitError bad-message when a field is missing, of a wrong type or out of range.
 */
export function encodeBody<K extends KindName>(kind: K, message: Messages[K]): Uint8Array {
  return guarded(kind, () => codecOf(kind).encode(message));
}

/**
 * The message in a frame's body; nothing in it refers to `body`. Fields that this version does not
 * know are dropped.
 * @throws GodwitError bad-message when the bytes are not such a message.
 */
export function decodeBody<K extends KindName>(kind: K, body: Uint8Array): Messages[K] {
  return guarded(kind, () => codecOf(kind).decode(body)) as Messages[K];
}

/** The same for a record of a journal. @throws GodwitError bad-message */
export function encodeJournalRecord(record: JournalRecord): Uint8Array {
  return guarded('JournalRecord', () => codecOf('JournalRecord').encode(record));
}

/** @throws GodwitError bad-message */
export function decodeJournalRecord(body: Uint8Array): JournalRecord {
  return guarded('JournalRecord', () => codecOf('JournalRecord').decode(body)) as JournalRecord;
}

/**
 * protobufjs does the bytes; this checks what it lets through (it encodes 0 for a wrong type
 * without a word) and translates the types that it has no native value for.
 */
class MessageCodec {
  readonly #type: protobuf.Type;
  readonly #fields: readonly (readonly [name: string, values: Scalar])[];

  constructor(type: protobuf.Type) {
    this.#type = type;
    this.#fields = type.fieldsArray.map((field) => [field.name, valuesOf(field)]);
  }

  encode(message: object): Uint8Array {
    return this.#type.encode(this.toWire(message)).finish();
  }

  decode(body: Uint8Array): object {
    const reader = protobuf.Reader.create(body);
    reader.discardUnknown = true; // else a peer could make us keep an object for every two bytes
    return this.fromWire(this.#type.decode(reader));
  }

  toWire(message: unknown): object {
    demand(typeof message === 'object' && message !== null, message, 'a message');
    return this.#translate(message, 'toWire');
  }

  fromWire(decoded: unknown): object {
    demand(typeof decoded === 'object' && decoded !== null, decoded, 'there');
    return this.#translate(decoded, 'fromWire');
  }

  #translate(from: object, direction: keyof Scalar): object {
    const result: Record<string, unknown> = {};
    for (const [name, values] of this.#fields) {
      try {
        result[name] = values[direction]((from as Record<string, unknown>)[name]);
      } catch (error) {
        throw new TypeError(`${name} ${(error as Error).message}`, { cause: error });
      }
    }
    return result;
  }
}

function codecOf(name: string): MessageCodec {
  let codec = codecs.get(name);
  if (codec === undefined) {
    codec = new MessageCodec(schema.lookupType(`godwit.${name}`));
    codecs.set(name, codec);
  }
  return codec;
}

function valuesOf(field: protobuf.Field): Scalar {
  const one =
    field.resolvedType instanceof protobuf.Type
      ? codecOf(field.resolvedType.name)
      : SCALARS[field.type]!;
  return field.repeated ? listOf(one) : one;
}

function listOf(one: Scalar): Scalar {
  return {
    toWire: (value) => {
      demand(Array.isArray(value), value, 'an array');
      return value.map(one.toWire, one);
    },
    fromWire: (value) => (value as unknown[]).map(one.fromWire, one),
  };
}

/** Whatever this file or protobufjs throws: the message cannot be. */
function guarded<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new GodwitError('bad-message', `bad ${name} message: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
