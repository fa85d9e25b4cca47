import { ByteWindow, type Parsing } from '../byte-window.ts';
import { refuse } from './refusal.ts';

/**
 * What xl's two ends say beside the stream (tools/xl/xl.h, tools/xl/xl_migrate.c):
 *
 *     receiver  BANNER, before it reads anything    sender    the stream
 *     receiver  READY, when all of it is loaded     sender    GO, when it has renamed its domain
 *     receiver  REPORT and a byte: 0 when the guest runs here, else why it does not, and GO: the sender
 *               is to resume its own
 *
 * All but the banner end with a NUL.
 */
export const BANNER = Buffer.from(
  'xl migration receiver ready, send binary domain data.\n',
  'latin1',
);
export const READY = Buffer.from('domain received, ready to unpause\0', 'latin1');
export const GO = Buffer.from('domain is yours, you are cleared to unpause\0', 'latin1');
export const REPORT = Buffer.from('my copy unpause results are as follows\0', 'latin1');

/** What a receiver says when its guest runs. */
export const RUNS: Buffer = Buffer.concat([REPORT, Buffer.from([0])]);
/** What it says when the sender is to resume its own: xl makes no difference between codes. */
export const DENIED: Buffer = Buffer.concat([REPORT, Buffer.from([1]), GO]);

/** What `xl migrate-receive` says; `code` 0: its guest runs. */
export type ReceiverMessage =
  | { readonly type: 'banner' }
  | { readonly type: 'ready' }
  | { readonly type: 'report'; readonly code: number }
  /** After a report that is not 0: the source may resume its own. */
  | { readonly type: 'yours' };

const LONGEST_MESSAGE = Math.max(...[BANNER, READY, GO, REPORT].map(({ length }) => length));

/**
 * Reads what `xl migrate-receive` says, cut anywhere. Anything else, and anything out of turn, is
 * refused; it must not be fed after it threw.
 */
export class ReceiverMessages {
  readonly #window = new ByteWindow(LONGEST_MESSAGE);
  readonly #messages: Parsing;

  constructor(onMessage: (message: ReceiverMessage) => void) {
    this.#messages = readReceiver(this.#window, onMessage);
  }

  /** @throws GodwitError xen-stream, or what the callback threw */
  feed(bytes: Buffer): void {
    this.#window.push(bytes);
    this.#messages.next();
  }
}

/** Reads the one message of the sender, which follows its stream; as `ReceiverMessages`. */
export class SenderMessage {
  readonly #window = new ByteWindow(GO.length);
  readonly #messages: Parsing;

  constructor(onGo: () => void) {
    this.#messages = readSender(this.#window, onGo);
  }

  /** @throws GodwitError xen-stream, or what the callback threw */
  feed(bytes: Buffer): void {
    this.#window.push(bytes);
    this.#messages.next();
  }
}

function* readReceiver(
  window: ByteWindow,
  onMessage: (message: ReceiverMessage) => void,
): Parsing<never> {
  yield* expect(window, BANNER, 'banner');
  onMessage({ type: 'banner' });
  yield* expect(window, READY, 'ready message');
  onMessage({ type: 'ready' });
  yield* expect(window, REPORT, 'report');
  yield* window.need(1);
  const code = window.u8();
  onMessage({ type: 'report', code });
  if (code !== 0) {
    yield* expect(window, GO, 'permission to resume');
    onMessage({ type: 'yours' });
  }
  return yield* nothingMore(window, 'its last message');
}

function* readSender(window: ByteWindow, onGo: () => void): Parsing<never> {
  yield* expect(window, GO, 'GO message');
  onGo();
  return yield* nothingMore(window, 'GO');
}

/** Byte by byte: what is no such message is refused before the length of one is here. */
function* expect(window: ByteWindow, message: Buffer, name: string): Parsing {
  for (const byte of message) {
    yield* window.need(1);
    const at = window.position;
    if (window.u8() !== byte) refuse(at, `something other than the ${name}`);
  }
}

function* nothingMore(window: ByteWindow, what: string): Parsing<never> {
  for (;;) {
    yield* window.need(1);
    refuse(window.position, `bytes after ${what}`);
  }
}
