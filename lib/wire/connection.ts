import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { asGodwitError, GodwitError, isErrorCode } from '../errors.ts';
import { identityOf } from './certificate-names.ts';
import { decodeBody, encodeBody } from './codec.ts';
import { type Frame, FrameDecoder } from './decoder.ts';
import { frameHead } from './frame.ts';
import { KeepAlive, type KeepAliveLimits } from './keep-alive.ts';
import { type ConnectionKind, isLegal, type KindName, kindOf, type Side } from './kinds.ts';
import type { Abort, Ack, Messages, Ping, Pong } from './messages.ts';
import { lostError } from './socket-errors.ts';

/** Time that a closed connection gets to bring its last frames out, ms. */
const LINGER_MS = 1000;
/** A frame that is still coming in on a lane is told of this often, ms. */
const SIGN_OF_LIFE_MS = 1000;
/** Characters of an abort text: even at 3 bytes each they fit the body limit of 4 KiB. */
const ABORT_TEXT = 1000;

const NO_PAYLOAD: readonly Uint8Array[] = [];
const NO_BODY = new Uint8Array(0);

/** What the connection deals with itself: these never reach `onMessage`. */
type Internal = 'Abort' | 'Ping' | 'Pong' | 'Ack';

/** A frame from the peer. The payload is valid until the handler returns; the message for good. */
export type Received = {
  [K in Exclude<KindName, Internal>]: {
    readonly kind: K;
    readonly message: Messages[K];
    readonly sequence: number;
    readonly payload: Buffer;
  };
}[Exclude<KindName, Internal>];

/** Who listens to a connection. */
export interface ConnectionHandlers {
  /** Called in the order of arrival; what it throws ends the connection. */
  readonly onMessage: (received: Received) => void;
  /** The peer has dealt with every numbered frame up to this one; how busy it is, as `Ack`. */
  readonly onAck?: (sequence: number, busy: number) => void;
  /** How busy this side is, in thousandths, for the peer that it acknowledges; not told when left out. */
  readonly busy?: () => number;
  /** Bytes came in, of whatever. */
  readonly onInput?: (bytes: number) => void;
  /** Bytes heard so far from the peer on other connections: with keepAlive signs of life, too. */
  readonly heardElsewhere?: () => number;
  /**
   * Called exactly once. Without an error: this side closed it. An error with `fromPeer` is the
   * peer's Abort.
   */
  readonly onClose: (error?: GodwitError) => void;
}

export interface ConnectionOptions extends ConnectionHandlers {
  readonly connection: ConnectionKind;
  /** Which of the two this side is. */
  readonly side: Side;
  /** Makes memory for the largest payload of a kind; if not given it grows with payloads. */
  readonly newPayloadBytes?: (bytes: number) => Buffer;
  /** For control connections: ping the peer and give it up when it is silent. */
  readonly keepAlive?: KeepAliveLimits;
}

/**
 * Messages in both directions over one connected stream. Nothing is copied on the way out: payload
 * buffers must stay as they are until the peer has acknowledged them.
 */
export class Connection {
  readonly #socket: Duplex;
  readonly #options: ConnectionOptions;
  #handlers: ConnectionHandlers;
  readonly #decoder: FrameDecoder;
  readonly #keepAlive: KeepAlive | undefined;
  #nextSequence = 0;
  /** Numbered frames that the peer has been told of. */
  #acknowledged = 0;
  #bytesSent = 0;
  /** When this side last said something; undefined: it has not. */
  #saidMs: number | undefined;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #error: GodwitError | undefined;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(socket: Duplex, options: ConnectionOptions) {
    const { connection, side, keepAlive, newPayloadBytes } = options;
    assert(keepAlive === undefined || connection === 'control', 'pings are control frames');
    this.#socket = socket;
    this.#options = options;
    this.#handlers = options;
    const peer = side === 'sender' ? 'receiver' : 'sender';
    const onFrame = (frame: Frame) => this.#receive(frame);
    this.#decoder = new FrameDecoder(peer, connection, onFrame, newPayloadBytes);
    if (keepAlive !== undefined) this.#keepAlive = this.#startKeepAlive(keepAlive);
    if (socket instanceof Socket) socket.setNoDelay(true);
    this.#listen();
  }

  /** Smoothed round trip of pings, ms; undefined until measured and without keepAlive. */
  get rttMs(): number | undefined {
    return this.#keepAlive?.rttMs;
  }

  /** Who the peer has shown to be (`identityOf`); empty without TLS. */
  get peerIdentity(): string {
    return this.#socket instanceof TLSSocket ? identityOf(this.#socket.getPeerCertificate()) : '';
  }

  /** Bytes handed to the socket, headers included. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** False once it is ending or has ended, which `onClose` tells. */
  get open(): boolean {
    return this.#state === 'open';
  }

  /** Where its next input is to be read to; undefined: anywhere. */
  get place(): Buffer | undefined {
    return this.#decoder.place;
  }

  /** Numbered frames received and dealt with. */
  get received(): number {
    return this.#decoder.received;
  }

  /** From here on somebody else listens. A connection that has ended tells them, too. */
  serve(handlers: ConnectionHandlers): void {
    this.#handlers = handlers;
    if (this.#state === 'closed') queueMicrotask(() => handlers.onClose(this.#error));
  }

  /** This connection goes on with a link: from these numbers on, in either direction. */
  goOn(sendNext: number, receiveNext: number): void {
    this.#nextSequence = sendNext;
    this.#decoder.expect(receiveNext);
    this.#acknowledged = receiveNext;
  }

  /**
   * Sends a message and its payload, of which nothing is copied.
   * @returns the frame's sequence number, 0 for kinds that are not numbered
   * @throws GodwitError bad-message or frame-too-large for what cannot be sent (the connection lives
   *   on), and the reason of the end on a connection that has ended
   */
  send<K extends Exclude<KindName, 'Ack'>>(
    kind: K,
    message: Messages[K],
    payload: readonly Uint8Array[] = NO_PAYLOAD,
  ): number {
    return this.sendBody(kind, encodeBody(kind, message), payload);
  }

  /** The same for a message that is encoded already. */
  sendBody(kind: KindName, body: Uint8Array, payload: readonly Uint8Array[]): number {
    const { numbered } = kindOf(kind);
    const sequence = numbered ? this.#nextSequence : 0;
    this.#write(kind, sequence, body, payload);
    if (numbered) this.#nextSequence++;
    return sequence;
  }

  /**
   * Resolves when the socket takes more: to be awaited between large frames. Rejects with the
   * reason when the connection ends.
   */
  ready(): Promise<void> {
    if (this.#state !== 'open') return Promise.reject(this.#ended());
    if (!this.#socket.writableNeedDrain) return Promise.resolve();
    this.#drained ??= Promise.withResolvers();
    return this.#drained.promise;
  }

  /** Ends the connection after what was sent; the peer's frames are no longer read. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#stop('closing');
    this.#socket.once('close', () => this.#report());
  }

  /**
   * Ends the connection for a reason, which the peer is told (Abort) when it can still be. `onClose`
   * is called before this returns; the socket lives on for a moment to bring the Abort out.
   */
  destroy(error: GodwitError): void {
    if (this.#state !== 'open') return;
    if (!error.fromPeer && this.#socket.writable) this.#sendAbort(error);
    this.#error = error;
    this.#stop('closed');
    this.#report();
  }

  #listen(): void {
    const socket = this.#socket;
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('drain', () => this.#wake());
    socket.on('error', (error) => this.destroy(lostError(error)));
    const lost = () => this.destroy(new GodwitError('peer-closed', this.#lostText()));
    socket.on('end', lost);
    socket.on('close', lost);
  }

  #take(bytes: Buffer): void {
    if (this.#state !== 'open') return;
    this.#keepAlive?.heard();
    this.#handlers.onInput?.(bytes.length);
    try {
      this.#decoder.push(bytes);
    } catch (error) {
      this.destroy(asGodwitError(error));
    }
    this.#acknowledge();
    this.#stillComing();
  }

  /** One Ack for all that a piece of input brought: its handlers have returned. */
  #acknowledge(): void {
    const { received } = this.#decoder;
    if (this.#state !== 'open' || received === this.#acknowledged) return;
    const { busy } = this.#handlers;
    const body = busy === undefined ? NO_BODY : encodeBody('Ack', { busy: busy() });
    this.#write('Ack', received - 1, body, NO_PAYLOAD);
    this.#acknowledged = received;
  }

  /** A large frame on a slow lane: its sender would otherwise hear nothing until all of it is here. */
  #stillComing(): void {
    const { side, connection } = this.#options;
    if (side !== 'receiver' || connection !== 'data' || this.#saidMs === undefined) return;
    if (this.#state !== 'open' || !this.#decoder.midFrame) return;
    if (performance.now() - this.#saidMs >= SIGN_OF_LIFE_MS) this.send('Ping', { cookie: 0 });
  }

  #receive({ kind, sequence, body, payload }: Frame): void {
    if (this.#state !== 'open') return; // a handler ended it in the middle of a piece of input
    const message = decodeBody(kind, body);
    if (kind === 'Abort') this.destroy(abortError(message as Abort));
    else if (kind === 'Ping') this.#pong(message as Ping);
    else if (kind === 'Pong') this.#keepAlive?.answered((message as Pong).cookie);
    else if (kind === 'Ack') this.#acked(sequence, (message as Ack).busy);
    else this.#handlers.onMessage({ kind, message, sequence, payload } as Received);
  }

  /** Not on lanes, where a Ping asks nothing; not to a peer that does not read: it would pile up. */
  #pong({ cookie }: Ping): void {
    if (this.#options.connection === 'control' && !this.#socket.writableNeedDrain)
      this.send('Pong', { cookie });
  }

  #acked(sequence: number, busy: number): void {
    if (sequence >= this.#nextSequence)
      throw new GodwitError(
        'frame-out-of-order',
        `the peer acknowledged frame ${sequence}; ${this.#nextSequence} were sent`,
      );
    this.#handlers.onAck?.(sequence, busy);
  }

  #write(kind: KindName, sequence: number, body: Uint8Array, payload: readonly Uint8Array[]): void {
    assert(isLegal(kindOf(kind), this.#options.side, this.#options.connection), kind);
    if (this.#state !== 'open') throw this.#ended();
    const payloadLength = payload.reduce((sum, part) => sum + part.length, 0);
    const head = frameHead(kindOf(kind), sequence, body, payloadLength);
    this.#bytesSent += head.length + payloadLength;
    this.#saidMs = performance.now();
    this.#socket.cork(); // one writev for all parts
    this.#socket.write(head);
    for (const part of payload) if (part.length > 0) this.#socket.write(part);
    this.#socket.uncork();
  }

  #sendAbort({ code, message }: GodwitError): void {
    this.send('Abort', { code, text: message.slice(0, ABORT_TEXT).toWellFormed() });
  }

  #startKeepAlive(limits: KeepAliveLimits): KeepAlive {
    const ping = (cookie: number) => {
      if (!this.#socket.writableNeedDrain) this.send('Ping', { cookie });
    };
    const elsewhere = () => this.#handlers.heardElsewhere?.() ?? 0;
    return new KeepAlive(limits, ping, elsewhere, (error) => this.destroy(error));
  }

  /**
   * Input is still taken, and dropped: a socket closed with unread input resets the connection, and
   * the peer would lose our last frames.
   */
  #stop(state: 'closing' | 'closed'): void {
    this.#state = state;
    this.#keepAlive?.stop();
    this.#wake();
    if (this.#socket.closed) return;
    this.#socket.end();
    const linger = setTimeout(() => this.#socket.destroy(), LINGER_MS);
    this.#socket.once('close', () => clearTimeout(linger));
  }

  #report(): void {
    this.#state = 'closed';
    this.#handlers.onClose(this.#error);
  }

  #wake(): void {
    const waiting = this.#drained;
    this.#drained = undefined;
    if (this.#state === 'open') waiting?.resolve();
    else waiting?.reject(this.#ended());
  }

  #ended(): GodwitError {
    return this.#error ?? new GodwitError('peer-closed', 'the connection was closed by this side');
  }

  #lostText(): string {
    return this.#decoder.midFrame
      ? 'the peer closed the connection in the middle of a frame'
      : 'the peer closed the connection without a word';
  }
}

/** What the peer reported. Its words reach logs and terminals: no control characters. */
function abortError({ code, text }: Abort): GodwitError {
  if (!isErrorCode(code))
    throw new GodwitError('bad-message', 'the peer sent an Abort without a proper code');
  const words = text.replace(/\p{Cc}/gu, ' ');
  return new GodwitError(code, `the peer reports: ${words}`, { fromPeer: true });
}
