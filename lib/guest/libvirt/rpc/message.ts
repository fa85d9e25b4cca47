import { GodwitError } from '../../../errors.ts';

/** The programs that a libvirtd speaks, of virnetprotocol.x and its like. */
export const REMOTE_PROGRAM = 0x20008086;
/** What belongs to its QEMU driver alone. */
export const QEMU_PROGRAM = 0x20008087;
export const KEEPALIVE_PROGRAM = 0x6b656570;
const VERSION = 1;

export const MESSAGE = { CALL: 0, REPLY: 1, EVENT: 2 } as const;
const STATUS_OK = 0;

const LENGTH_BYTES = 4;
const HEADER_BYTES = LENGTH_BYTES + 6 * 4;
/** VIR_NET_MESSAGE_MAX, its own length included. */
export const MAX_MESSAGE_BYTES = 33_554_432;

/** One message of libvirt's RPC; a body is XDR. */
export interface Message {
  readonly program: number;
  readonly procedure: number;
  /** Of MESSAGE, or one that is not known here. */
  readonly type: number;
  readonly serial: number;
  /** A reply that is none says why in its body. */
  readonly failed: boolean;
  readonly body: Buffer;
}

/**
 * The bytes of a message: u32 length of all of it, then program, version, procedure, type, serial and
 * status, 32 bits each.
 */
export function encodeMessage(message: Omit<Message, 'failed'>): Buffer {
  const { program, procedure, type, serial, body } = message;
  const bytes = Buffer.alloc(HEADER_BYTES + body.length);
  const fields = [bytes.length, program, VERSION, procedure, type, serial, STATUS_OK];
  fields.forEach((field, at) => {
    bytes.writeUInt32BE(field, at * 4);
  });
  body.copy(bytes, HEADER_BYTES);
  return bytes;
}

/** Cuts the bytes of a connection into messages. One that is malformed ends it for good. */
export class MessageSplitter {
  #pieces: Buffer[] = [];
  #have = 0;

  /** @throws GodwitError hypervisor-failed before anything of a message that is too long is kept */
  push(bytes: Buffer): Message[] {
    this.#pieces.push(bytes);
    this.#have += bytes.length;
    const messages: Message[] = [];
    for (let length = this.#next(); length !== undefined; length = this.#next())
      messages.push(decode(this.#take(length)));
    return messages;
  }

  /** Bytes of the message that is whole, if there is one. */
  #next(): number | undefined {
    if (this.#have < LENGTH_BYTES) return undefined;
    const length = this.#joined(LENGTH_BYTES).readUInt32BE();
    if (length >= HEADER_BYTES && length <= MAX_MESSAGE_BYTES)
      return this.#have >= length ? length : undefined;
    const text = `libvirtd sent a message of ${length} bytes; one has ${HEADER_BYTES} to ${MAX_MESSAGE_BYTES}`;
    throw new GodwitError('hypervisor-failed', text);
  }

  #take(length: number): Buffer {
    const all = this.#joined(length);
    this.#have -= length;
    this.#pieces = this.#have > 0 ? [all.subarray(length)] : [];
    return all.subarray(0, length);
  }

  /** The first piece, with at least so many bytes. Pieces of a long message are joined once, at its end. */
  #joined(length: number): Buffer {
    if (this.#pieces[0]!.length < length) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]!;
  }
}

function decode(bytes: Buffer): Message {
  const field = (index: number) => bytes.readUInt32BE(index * 4);
  return {
    program: field(1),
    procedure: field(3),
    type: field(4),
    serial: field(5),
    failed: field(6) !== STATUS_OK,
    body: bytes.subarray(HEADER_BYTES),
  };
}
