import { GodwitError } from '../../errors.ts';

/*
 * What libxl-save-helper says to libxl on its standard output (tools/libs/light/libxl_save_msgs_gen.pl and
 * libxl_save_helper.c; the same in Xen 4.17 to master). Both are of one host: numbers are in its order.
 *
 *     2 bytes  length of what follows
 *     2 bytes  number of the message
 *              its arguments: integers, and texts as 4 bytes of length, bytes, NUL (counted)
 *
 * Some are answered on its standard input, by an int of 4 bytes.
 */
const PROGRESS = 2;
const SUSPEND = 3;
/** postcopy, checkpoint, wait_checkpoint, switch_qemu_logdirty. */
const QUESTIONS = [4, 5, 6, 7];
const COMPLETE = 10;
const LENGTH_BYTES = 2;
const NUMBER_BYTES = 2;

/** `suspend` was not done: libxc ends the save, and the guest runs on. */
export const REFUSED = answer(0);

/** A message, and what is known of it here. */
export type HelperMessage =
  /** A step of something long, as libxc counts it. */
  | {
      readonly type: 'progress';
      readonly what: string;
      readonly done: number;
      readonly total: number;
    }
  /** The rounds are over: libxl is to suspend the guest, and answers when that is done. */
  | { readonly type: 'suspend' }
  /** Something else that is answered. */
  | { readonly type: 'question' }
  | { readonly type: 'complete'; readonly code: number }
  | { readonly type: 'other' };

/** Reads what a save helper says, cut anywhere; it must not be fed after it threw. */
export class HelperMessages {
  readonly #onMessage: (message: HelperMessage, bytes: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  /** @param onMessage gets each message with all of its bytes, to be passed on */
  constructor(onMessage: (message: HelperMessage, bytes: Buffer) => void) {
    this.#onMessage = onMessage;
  }

  /** @throws GodwitError xen-stream, or what the callback threw */
  feed(bytes: Buffer): void {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (rest.length >= LENGTH_BYTES) {
      const length = rest.readUInt16LE(0);
      if (length < NUMBER_BYTES) throw malformed('a message without a number');
      const whole = LENGTH_BYTES + length;
      if (rest.length < whole) break;
      this.#onMessage(messageOf(rest.subarray(LENGTH_BYTES, whole)), rest.subarray(0, whole));
      rest = rest.subarray(whole);
    }
    this.#rest = Buffer.from(rest); // 64 KiB at most
  }
}

function messageOf(body: Buffer): HelperMessage {
  const fields = new Fields(body.subarray(NUMBER_BYTES));
  const number = body.readUInt16LE(0);
  switch (number) {
    case PROGRESS: {
      fields.text(); // whose progress it is
      const what = fields.text();
      return fields.end({ type: 'progress', what, done: fields.long(), total: fields.long() });
    }
    case SUSPEND:
      return fields.end({ type: 'suspend' });
    case COMPLETE: {
      const code = fields.int();
      fields.int(); // errno
      return fields.end({ type: 'complete', code });
    }
    default:
      return { type: QUESTIONS.includes(number) ? 'question' : 'other' };
  }
}

/** The arguments of a message, one after the other. */
class Fields {
  #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int(): number {
    return this.#take(4).readInt32LE();
  }

  long(): number {
    return Number(this.#take(8).readBigUInt64LE());
  }

  text(): string {
    const bytes = this.#take(this.#take(4).readUInt32LE());
    if (bytes.at(-1) !== 0) throw malformed('a text without an end');
    return bytes.toString('latin1', 0, bytes.length - 1);
  }

  /** All were read. */
  end<T>(message: T): T {
    if (this.#bytes.length > 0) throw malformed('a message that is too long');
    return message;
  }

  #take(length: number): Buffer {
    if (this.#bytes.length < length) throw malformed('a message that is too short');
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return taken;
  }
}

/** As libxl answers. */
export function answer(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function malformed(what: string): GodwitError {
  return new GodwitError('xen-stream', `libxl-save-helper says what none does: ${what}`);
}
