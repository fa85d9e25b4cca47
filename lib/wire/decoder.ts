import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { asGodwitError, GodwitError } from '../errors.ts';
import { type FrameHeader, HEADER_SIZE, headerCrc, readHeader } from './frame.ts';
import { type ConnectionKind, isLegal, type Kind, type KindName, type Side } from './kinds.ts';

/** `body` and `payload` belong to the decoder: they are valid until the frame's callback returns. */
export interface Frame {
  readonly kind: KindName;
  readonly sequence: number;
  readonly body: Buffer;
  readonly payload: Buffer;
}

type State = 'header' | 'body' | 'skip' | 'payload';

const EMPTY = Buffer.alloc(0);

/**
 * Turns one direction of a connection, cut anywhere, into frames. It owns no socket; the callback
 * runs inside `push`. Payload bytes are copied once, into a buffer that is used again for the next
 * frame, or not at all when the input holds the whole payload or was read into `place`.
 *
 * Anything that breaks a rule, an error thrown by the callback included, ends it for good: `push`
 * throws the first reason from then on.
 *
 * Memory: a header, and one buffer each for body and payload, which appear with the first frame
 * that needs them and never exceed the largest limit of a kind that is legal here.
 */
export class FrameDecoder {
  readonly #from: Side;
  readonly #connection: ConnectionKind;
  readonly #onFrame: (frame: Frame) => void;
  readonly #newPayloadBytes: ((bytes: number) => Buffer) | undefined;
  readonly #headerBytes = Buffer.allocUnsafeSlow(HEADER_SIZE);
  #bodyBytes: Buffer = EMPTY;
  #payloadBytes: Buffer = EMPTY;

  #state: State = 'header';
  /** Bytes of the part named by the state that are here: below that part's length between pushes. */
  #filled = 0;
  #header: FrameHeader | undefined;
  #crc = 0;
  #nextSequence = 0;
  #received = 0;
  #lastAcked = -1;
  #poison: GodwitError | undefined;

  /**
   * Accepts the kinds that side `from` may send on such a connection.
   * @param newPayloadBytes makes memory for the largest payload of a kind; else it grows with payloads
   */
  constructor(
    from: Side,
    connection: ConnectionKind,
    onFrame: (frame: Frame) => void,
    newPayloadBytes?: (bytes: number) => Buffer,
  ) {
    this.#from = from;
    this.#connection = connection;
    this.#onFrame = onFrame;
    this.#newPayloadBytes = newPayloadBytes;
  }

  /** Numbered frames that the callback has dealt with, or that were skipped. */
  get received(): number {
    return this.#received;
  }

  /** The other side goes on with this number: it is sending again what was lost. */
  expect(sequence: number): void {
    this.#nextSequence = sequence;
    this.#received = sequence;
  }

  /** Where the next input is to be, to be copied no more; undefined: anywhere. Valid until the next `push`. */
  get place(): Buffer | undefined {
    if (this.#state !== 'payload') return undefined;
    const place = this.#payloadBytes.subarray(this.#filled, this.#header!.payloadLength);
    return place.length > 0 ? place : undefined;
  }

  /** True when the input so far ends inside a frame. */
  get midFrame(): boolean {
    return this.#state !== 'header' || this.#filled > 0;
  }

  /** Bytes of memory that it holds. */
  get memoryBytes(): number {
    return HEADER_SIZE + this.#bodyBytes.length + this.#payloadBytes.length;
  }

  /**
   * Takes the next bytes of the stream; they are not needed after the call.
   * @throws GodwitError bad-magic, bad-version, bad-kind, frame-too-large, bad-message,
   *   bad-checksum, frame-out-of-order, or what the callback threw
   */
  push(input: Buffer): void {
    if (this.#poison !== undefined) throw this.#poison;
    try {
      for (let at = 0; at < input.length; ) at = this.#take(input, at);
    } catch (error) {
      this.#poison = asGodwitError(error);
      throw this.#poison;
    }
  }

  /** Consumes input for the part in hand, at least one byte; returns where the rest begins. */
  #take(input: Buffer, at: number): number {
    switch (this.#state) {
      case 'header':
        return this.#takeHeader(input, at);
      case 'body':
        return this.#takeBody(input, at);
      case 'skip':
        return this.#takeSkipped(input, at);
      case 'payload':
        return this.#takePayload(input, at);
    }
  }

  #takeHeader(input: Buffer, at: number): number {
    const end = this.#gather(this.#headerBytes, HEADER_SIZE, input, at);
    if (this.#filled < HEADER_SIZE) return end;
    const header = readHeader(this.#headerBytes);
    if (header.kind !== undefined) this.#checkKind(header.kind);
    this.#header = header;
    this.#crc = headerCrc(this.#headerBytes);
    if (header.kind !== undefined)
      this.#bodyBytes = room(this.#bodyBytes, header.bodyLength, header.kind.body);
    this.#enter(header.kind === undefined ? 'skip' : 'body');
    if (header.bodyLength === 0) this.#endBody(header);
    return end;
  }

  #takeBody(input: Buffer, at: number): number {
    const header = this.#header!;
    const end = this.#gather(this.#bodyBytes, header.bodyLength, input, at);
    if (this.#filled < header.bodyLength) return end;
    this.#crc = crc32(this.#bodyBytes.subarray(0, header.bodyLength), this.#crc);
    this.#endBody(header);
    return end;
  }

  /** The body of an unknown kind: summed, not kept. */
  #takeSkipped(input: Buffer, at: number): number {
    const header = this.#header!;
    const end = Math.min(input.length, at + header.bodyLength - this.#filled);
    this.#crc = crc32(input.subarray(at, end), this.#crc);
    this.#filled += end - at;
    if (this.#filled === header.bodyLength) this.#endBody(header);
    return end;
  }

  #takePayload(input: Buffer, at: number): number {
    const header = this.#header!;
    const length = header.payloadLength;
    if (this.#filled === 0 && input.length - at >= length) {
      this.#emit(header, input.subarray(at, at + length));
      return at + length;
    }
    const end = this.#gather(this.#payloadBytes, length, input, at);
    if (this.#filled === length) this.#emit(header, this.#payloadBytes.subarray(0, length));
    return end;
  }

  #endBody(header: FrameHeader): void {
    if (this.#crc !== header.crc)
      throw new GodwitError('bad-checksum', 'a frame was damaged on its way: its CRC is wrong');
    this.#checkSequence(header);
    if (header.kind === undefined) this.#skipped();
    else if (header.payloadLength > 0) this.#enterPayload(header);
    else this.#emit(header, EMPTY);
  }

  #enterPayload({ kind, payloadLength }: FrameHeader): void {
    const limit = kind!.payload;
    if (this.#newPayloadBytes === undefined)
      this.#payloadBytes = room(this.#payloadBytes, payloadLength, limit);
    else if (this.#payloadBytes.length < payloadLength)
      this.#payloadBytes = this.#newPayloadBytes(limit);
    this.#enter('payload');
  }

  #skipped(): void {
    this.#received = this.#nextSequence;
    this.#enter('header');
  }

  #emit({ kind, sequence, bodyLength }: FrameHeader, payload: Buffer): void {
    this.#enter('header');
    const body = this.#bodyBytes.subarray(0, bodyLength);
    this.#onFrame({ kind: kind!.name, sequence, body, payload });
    this.#received = this.#nextSequence;
  }

  #enter(state: State): void {
    this.#state = state;
    this.#filled = 0;
  }

  /** Copies what is missing of a part, as far as the input goes, unless it is there already. */
  #gather(target: Buffer, length: number, input: Buffer, at: number): number {
    assert(this.#filled < length && length <= target.length);
    const end = Math.min(input.length, at + length - this.#filled);
    const inPlace =
      input.buffer === target.buffer && input.byteOffset + at === target.byteOffset + this.#filled;
    if (!inPlace) input.copy(target, this.#filled, at, end);
    this.#filled += end - at;
    return end;
  }

  #checkKind(kind: Kind): void {
    if (isLegal(kind, this.#from, this.#connection)) return;
    throw new GodwitError(
      'bad-kind',
      `the ${this.#from} sent a ${kind.name} frame on a ${this.#connection} connection, where it has no place`,
    );
  }

  /**
   * Numbered frames come without a gap; an Ack names what it acknowledges, always something later.
   * A kind that is not known here counts: its sender numbers it.
   */
  #checkSequence({ kind, sequence }: FrameHeader): void {
    if (kind?.numbered === false && kind.name !== 'Ack') {
      if (sequence === 0) return;
      throw new GodwitError(
        'frame-out-of-order',
        `the peer numbered a ${kind.name} frame, which has no number`,
      );
    }
    if (kind?.name === 'Ack') {
      if (sequence <= this.#lastAcked || !Number.isSafeInteger(sequence))
        throw new GodwitError(
          'frame-out-of-order',
          `the peer acknowledged frame ${sequence} after frame ${this.#lastAcked}`,
        );
      this.#lastAcked = sequence;
    } else if (sequence === this.#nextSequence) {
      this.#nextSequence++;
    } else {
      throw new GodwitError(
        'frame-out-of-order',
        `the peer sent frame ${sequence} where frame ${this.#nextSequence} was due`,
      );
    }
  }
}

/** A buffer with room for `length`: the present one, or a larger one within the limit. */
function room(present: Buffer, length: number, limit: number): Buffer {
  if (present.length >= length) return present;
  return Buffer.allocUnsafeSlow(Math.min(limit, 2 ** Math.ceil(Math.log2(length))));
}
