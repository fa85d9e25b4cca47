import { crc32 } from 'node:zlib';
import { GodwitError } from '../errors.ts';
import { type Kind, kindOfNumber } from './kinds.ts';

/** The 32 bytes that stand before every body: proto/WIRE.md, "Frame". */
export const HEADER_SIZE = 32;
/** Version of the frame, and the only protocol version so far. */
export const WIRE_VERSION = 1;
/** Body of a frame whose kind is unknown but optional; its payload must be empty. */
export const UNKNOWN_BODY_LIMIT = 64 * 1024;

const MAGIC = 0x47445754; // "GDWT", read big endian
const MAGIC_SIZE = 4;
const FLAG_OPTIONAL = 1;
const CRC_OFFSET = 28;
const TWO_32 = 2 ** 32;

export interface FrameHeader {
  /** Undefined: unknown and optional, to be skipped. */
  readonly kind: Kind | undefined;
  readonly bodyLength: number;
  readonly payloadLength: number;
  /** Exact up to 2^53 − 1; beyond that it is only known to be out of order. */
  readonly sequence: number;
  readonly crc: number;
}

/**
 * Header and body of a frame in one buffer; the payload follows it on the wire.
 * @throws GodwitError frame-too-large when the kind's limits do not allow the lengths.
 */
export function frameHead(
  kind: Kind,
  sequence: number,
  body: Uint8Array,
  payloadLength: number,
): Buffer {
  checkLengths(kind.name, kind.body, kind.payload, body.length, payloadLength);
  const head = Buffer.allocUnsafe(HEADER_SIZE + body.length);
  head.set(body, HEADER_SIZE);
  head.writeUInt32BE(MAGIC, 0);
  head[4] = WIRE_VERSION;
  head[5] = kind.number;
  head.writeUInt16LE(kind.optional ? FLAG_OPTIONAL : 0, 6);
  head.writeUInt32LE(body.length, 8);
  head.writeUInt32LE(payloadLength, 12);
  head.writeUInt32LE(sequence % TWO_32, 16);
  head.writeUInt32LE(Math.floor(sequence / TWO_32), 20);
  head.writeUInt32LE(0, 24);
  head.writeUInt32LE(crc32(body, headerCrc(head)), CRC_OFFSET);
  return head;
}

/**
 * Whether the kind's limits allow a frame.
 * @returns bytes of body and payload
 * @throws GodwitError frame-too-large
 */
export function checkFrame(kind: Kind, body: Uint8Array, payload: readonly Uint8Array[]): number {
  const payloadLength = payload.reduce((sum, part) => sum + part.length, 0);
  checkLengths(kind.name, kind.body, kind.payload, body.length, payloadLength);
  return body.length + payloadLength;
}

/**
 * Reads the first HEADER_SIZE bytes of a frame and checks all that can be checked without the body.
 * @throws GodwitError bad-magic, bad-version, bad-kind, frame-too-large, bad-message (reserved bits)
 */
export function readHeader(bytes: Buffer): FrameHeader {
  checkPreamble(bytes);
  const flags = bytes.readUInt16LE(6);
  if ((flags & ~FLAG_OPTIONAL) !== 0 || bytes.readUInt32LE(24) !== 0)
    throw new GodwitError('bad-message', 'a frame header has reserved bits that are not zero');
  const number = bytes[5]!;
  const kind = kindOfNumber(number);
  if (kind === undefined && (flags & FLAG_OPTIONAL) === 0)
    throw new GodwitError('bad-kind', `the peer sent a frame of kind ${number}, which is unknown`);
  const bodyLength = bytes.readUInt32LE(8);
  const payloadLength = bytes.readUInt32LE(12);
  const name = kind?.name ?? `kind ${number}`;
  const { body, payload } = kind ?? { body: UNKNOWN_BODY_LIMIT, payload: 0 };
  checkLengths(name, body, payload, bodyLength, payloadLength);
  const sequence = bytes.readUInt32LE(20) * TWO_32 + bytes.readUInt32LE(16);
  return { kind, bodyLength, payloadLength, sequence, crc: bytes.readUInt32LE(CRC_OFFSET) };
}

/** CRC-32 of the covered part of the header, to be continued over the body. */
export function headerCrc(header: Uint8Array): number {
  return crc32(header.subarray(0, CRC_OFFSET));
}

/** First byte of a TLS record that begins a handshake; the next is 3. */
const TLS_HANDSHAKE = 0x16;

function checkPreamble(bytes: Buffer): void {
  if (bytes.readUInt32BE(0) !== MAGIC)
    throw new GodwitError(
      'bad-magic',
      bytes[0] === TLS_HANDSHAKE && bytes[1] === 3
        ? 'the peer speaks TLS, this side does not'
        : 'the peer does not speak the Godwit protocol',
    );
  if (bytes[4] !== WIRE_VERSION)
    throw new GodwitError(
      'bad-version',
      `the peer sent a frame of version ${bytes[4]}; this side speaks version ${WIRE_VERSION}`,
    );
}

function checkLengths(
  name: string,
  bodyLimit: number,
  payloadLimit: number,
  body: number,
  payload: number,
): void {
  if (body > bodyLimit)
    throw new GodwitError(
      'frame-too-large',
      `a ${name} frame has a body of ${body} bytes; ${bodyLimit} are allowed`,
    );
  if (payload > payloadLimit)
    throw new GodwitError(
      'frame-too-large',
      `a ${name} frame has a payload of ${payload} bytes; ${payloadLimit} are allowed`,
    );
}

/** Whether what a connection has said first is a frame of this protocol, and not TLS. */
export function beginsFrame(first: Uint8Array): boolean {
  const bytes = Buffer.from(first.buffer, first.byteOffset, first.byteLength);
  return bytes.length >= MAGIC_SIZE && bytes.readUInt32BE(0) === MAGIC;
}
