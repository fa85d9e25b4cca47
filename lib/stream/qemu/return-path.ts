import { ByteWindow, type Parsing } from '../byte-window.ts';
import { nameIn, RETURN } from './format.ts';
import { refuse } from './refusal.ts';

/** What a destination says about a precopy migration: PONG for each PING, SHUT as the last. */
export type ReturnMessage =
  | { readonly type: 'pong'; readonly value: number }
  /** `error` 0: everything was loaded. */
  | { readonly type: 'shut'; readonly error: number };

/** u16 type, u16 length, and a u32 in both messages that are taken. */
const MESSAGE_SIZE = 8;

/** The answer to PING. */
export function pong(value: number): Buffer {
  return message(RETURN.PONG, value);
}

/** The last message: with 0 the source gives the guest up, with anything else it resumes it. */
export function shut(error: number): Buffer {
  return message(RETURN.SHUT, error);
}

/** Allows the source to stop the guest (capability switchover-ack). */
export function switchoverAck(): Buffer {
  return message(RETURN.SWITCHOVER_ACK);
}

function message(type: number, ...payload: number[]): Buffer {
  const bytes = Buffer.alloc(4 + 4 * payload.length);
  bytes.writeUInt16BE(type, 0);
  bytes.writeUInt16BE(4 * payload.length, 2);
  for (const [i, value] of payload.entries()) bytes.writeUInt32BE(value, 4 + 4 * i);
  return bytes;
}

/**
 * Reads the messages of a destination QEMU, cut anywhere. Others than PONG and SHUT (postcopy's
 * requests), and anything after SHUT, are refused; it must not be fed after it threw.
 */
export class ReturnPathParser {
  readonly #window = new ByteWindow(MESSAGE_SIZE);
  readonly #messages: Parsing;

  constructor(onMessage: (message: ReturnMessage) => void) {
    this.#messages = readMessages(this.#window, onMessage);
  }

  /** @throws GodwitError qemu-stream, or what the callback threw */
  feed(bytes: Buffer): void {
    this.#window.push(bytes);
    this.#messages.next();
  }
}

function* readMessages(
  window: ByteWindow,
  onMessage: (message: ReturnMessage) => void,
): Parsing<never> {
  for (let ended = false; ; ) {
    yield* window.need(4);
    const at = window.position;
    if (ended) refuse(at, 'a message after SHUT on its return path');
    const type = window.u16();
    const length = window.u16();
    if ((type !== RETURN.PONG && type !== RETURN.SHUT) || length !== 4)
      refuse(at, `message ${nameIn(RETURN, type)} of ${length} bytes on its return path`);
    yield* window.need(4);
    const value = window.u32();
    ended = type === RETURN.SHUT;
    onMessage(ended ? { type: 'shut', error: value } : { type: 'pong', value });
  }
}
