/**
 * A second reader of the wire, written from proto/WIRE.md alone: it shares no code with lib/wire,
 * is slow, and wants the whole stream at once.
 */

export interface NaiveFrame {
  kind: number;
  flags: number;
  sequence: bigint;
  body: Uint8Array;
  payload: Uint8Array;
}

/** Every frame of a complete stream; throws a plain Error at the first broken rule. */
export function readFrames(stream: Uint8Array): NaiveFrame[] {
  const frames: NaiveFrame[] = [];
  for (let at = 0; at < stream.length; ) {
    const view = new DataView(stream.buffer, stream.byteOffset + at, 32);
    const magic = String.fromCharCode(...stream.slice(at, at + 4));
    if (magic !== 'GDWT') throw new Error(`magic ${magic}`);
    if (view.getUint8(4) !== 1) throw new Error('version');
    if (view.getUint32(24, true) !== 0) throw new Error('reserved');
    const bodyStart = at + 32;
    const bodyEnd = bodyStart + view.getUint32(8, true);
    const end = bodyEnd + view.getUint32(12, true);
    if (end > stream.length) throw new Error('the stream ends inside a frame');
    const body = stream.slice(bodyStart, bodyEnd);
    const covered = [...stream.slice(at, at + 28), ...body];
    if (bitwiseCrc(covered) !== view.getUint32(28, true)) throw new Error('crc');
    frames.push({
      kind: view.getUint8(5),
      flags: view.getUint16(6, true),
      sequence: view.getBigUint64(16, true),
      body,
      payload: stream.slice(bodyEnd, end),
    });
    at = end;
  }
  return frames;
}

export interface NaiveField {
  name: string;
  number: number;
  type: string;
  repeated: boolean;
}

/** The messages of a .proto file that has one field per line; names in camel case. */
export function readSchema(text: string): Map<string, NaiveField[]> {
  const schema = new Map<string, NaiveField[]>();
  for (const [, message, fields] of text.matchAll(/^message (\w+) \{([^}]*)\}/gm)) {
    const rows = fields!.matchAll(/^ *(repeated )?(\w+) (\w+) = (\d+);/gm);
    const parsed = [...rows].map(([, repeated, type, name, number]) => ({
      name: name!.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      number: Number(number),
      type: type!,
      repeated: repeated !== undefined,
    }));
    schema.set(message!, parsed);
  }
  return schema;
}

/** A message as plain values: safe integers for uint64, bigint for fixed64. */
export function readMessage(
  schema: Map<string, NaiveField[]>,
  name: string,
  body: Uint8Array,
): Record<string, unknown> {
  const raw = readFields(new Uint8Array(body)); // a Buffer would slice to Buffers
  const message: Record<string, unknown> = {};
  for (const { name: field, number, type, repeated } of schema.get(name)!) {
    const found = (raw.get(number) ?? []).flatMap((value) =>
      repeated && value instanceof Uint8Array ? unpack(type, value) : [value],
    );
    const values = found.map((value) => convert(schema, type, value));
    message[field] = repeated ? values : values.length > 0 ? values.at(-1) : absent(type);
  }
  return message;
}

function unpack(type: string, bytes: Uint8Array): (bigint | Uint8Array)[] {
  if (type === 'uint32') return readPacked(bytes);
  if (type !== 'fixed64') return [bytes];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(i * 8, true));
}

function convert(schema: Map<string, NaiveField[]>, type: string, value: bigint | Uint8Array) {
  if (typeof value === 'bigint') {
    if (type === 'bool') return value !== 0n;
    if (type === 'double') return new Float64Array(new BigUint64Array([value]).buffer)[0];
    return type === 'fixed64' ? value : Number(value);
  }
  if (type === 'string')
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value);
  return type === 'bytes' ? value : readMessage(schema, type, value);
}

function absent(type: string): unknown {
  if (type === 'string') return '';
  if (type === 'bytes') return new Uint8Array(0);
  if (type === 'bool') return false;
  return type === 'fixed64' ? 0n : 0;
}

/** Field number → values in order: bigint for varint and 64 bits, bytes for length-delimited. */
export function readFields(body: Uint8Array): Map<number, (bigint | Uint8Array)[]> {
  const fields = new Map<number, (bigint | Uint8Array)[]>();
  let at = 0;
  const varint = () => {
    const [value, next] = readVarint(body, at);
    at = next;
    return value;
  };
  while (at < body.length) {
    const tag = varint();
    let value: bigint | Uint8Array;
    if ((tag & 7n) === 0n) value = varint();
    else if ((tag & 7n) === 1n) {
      value = new DataView(body.buffer, body.byteOffset + at, 8).getBigUint64(0, true);
      at += 8;
    } else if ((tag & 7n) === 2n) {
      const length = Number(varint());
      value = body.slice(at, at + length);
      at += length;
    } else throw new Error(`wire type ${tag & 7n}`);
    const number = Number(tag >> 3n);
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  if (at !== body.length) throw new Error('the body ends inside a field');
  return fields;
}

/** The varints of a packed field. */
function readPacked(bytes: Uint8Array): bigint[] {
  const values: bigint[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [value, next] = readVarint(bytes, at);
    values.push(value);
    at = next;
  }
  return values;
}

function readVarint(bytes: Uint8Array, start: number): [value: bigint, next: number] {
  let value = 0n;
  for (let at = start; at < bytes.length; at++) {
    value |= BigInt(bytes[at]! & 0x7f) << BigInt(7 * (at - start));
    if (bytes[at]! < 0x80) return [value, at + 1];
  }
  throw new Error('the bytes end inside a varint');
}

/** CRC-32 with the reflected polynomial 0xEDB88320, one bit at a time. */
function bitwiseCrc(bytes: number[]): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
