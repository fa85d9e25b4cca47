import { asGodwitError, GodwitError } from '../errors.ts';
import { encodeBody } from './codec.ts';
import type { Connection, Received } from './connection.ts';
import { checkFrame } from './frame.ts';
import { type KindName, kindOf } from './kinds.ts';
import type { Messages } from './messages.ts';
import { Outage } from './outage.ts';

/** Bytes that may wait for an acknowledgement before `ready` makes the sender wait, unless it wants fewer. */
const RETAINED_BYTES = 8 << 20;
/** What a retained frame takes besides its body and payload: its header and our note of it. */
const FRAME_BYTES = 256;
/**
 * Longest wait for an acknowledgement, in `stallMs`, as long as the peer is heard: with the defaults
 * 600 s, in which a lane brings its largest frame over at 15 kbit/s.
 */
const SLOWEST_FACTOR = 20;
/** `stallMs` in peer time limits: congestion is not silence. */
export const STALL_FACTOR = 6;
/** Looks at a stall in each `stallMs`. */
const LOOKS = 4;

const NO_PAYLOAD: readonly Uint8Array[] = [];

/** Codes of a connection that went away, as opposed to one that was ended for a reason. */
const LOSSES: ReadonlySet<string> = new Set(['peer-closed', 'peer-silent']);

export interface LinkOptions {
  /** Called once for each numbered frame, in order; what it throws ends the link. */
  readonly onMessage: (received: Received) => void;
  /** The peer has dealt with every frame up to this one; how busy it is, as `Ack`. */
  readonly onAck?: (sequence: number, busy: number) => void;
  /** As of a connection. */
  readonly busy?: (() => number) | undefined;
  /** Bytes that may wait for an acknowledgement; see `ready`. */
  readonly retainedBytes?: number;
  /** Bytes came in, of whatever. */
  readonly onInput?: (bytes: number) => void;
  /** Bytes heard so far from the peer on other connections: signs of life, too. */
  readonly heardElsewhere?: () => number;
  /** True while a lost connection may be followed by another one. */
  readonly mayRejoin: () => boolean;
  /**
   * How long it may go without progress from when its connection was lost, ms; see `Outage`.
   * Undefined: as long as it is wanted, which others decide.
   */
  readonly giveUpMs: number | undefined;
  /**
   * While frames wait for their acknowledgement: the longest time in which the peer is not heard at
   * all, ms. Then the connection counts as lost.
   */
  readonly stallMs: number;
  /** The connection was lost; what is sent waits for `join`. */
  readonly onLost: (error: GodwitError) => void;
  /** The link has ended, called exactly once. Without an error: this side closed it. */
  readonly onClose: (error?: GodwitError) => void;
}

/** What a link may send: a frame with a number. */
type Numbered = Exclude<KindName, 'Ack'>;

interface Retained {
  readonly sequence: number;
  readonly kind: Numbered;
  readonly body: Uint8Array;
  readonly payload: readonly Uint8Array[];
  /** Memory that it holds. */
  readonly bytes: number;
}

type State =
  | { readonly name: 'connected'; readonly connection: Connection }
  /** `received`: numbered frames, as of the connection before. */
  | { readonly name: 'lost'; readonly received: number }
  | { readonly name: 'ended'; readonly error: GodwitError };

/**
 * One stream of a migration over as many connections, one after the other, as it takes: every
 * numbered frame is kept, its payload by reference, until the peer has dealt with it, and sent again
 * on the next connection when it had not (proto/WIRE.md, Links).
 */
export class Link {
  readonly #options: LinkOptions;
  readonly #outage: Outage;
  readonly #watch: NodeJS.Timeout;
  #state: State;
  #next = 0;
  #rttMs: number | undefined;
  #retained: Retained[] = [];
  #retainedBytes = 0;
  /** When the frames that wait began to wait, or the last of those before them was acknowledged. */
  #waitingSince = 0;
  #heardMs = 0;
  #changed: PromiseWithResolvers<void> | undefined;

  /** Over a connection that has been greeted; only unnumbered frames were exchanged on it. */
  constructor(connection: Connection, options: LinkOptions) {
    this.#options = options;
    this.#outage = new Outage(options.giveUpMs, (error) => this.#end(error));
    this.#watch = setInterval(() => this.#look(), Math.ceil(options.stallMs / LOOKS)).unref();
    this.#state = { name: 'connected', connection };
    this.#serve(connection);
  }

  get state(): State['name'] {
    return this.#state.name;
  }

  get connected(): boolean {
    return this.#state.name === 'connected';
  }

  /** Numbered frames received so far, for Rejoin. @throws the reason of the end */
  get received(): number {
    const state = this.#living();
    return state.name === 'connected' ? state.connection.received : state.received;
  }

  /** Smoothed round trip of pings, ms, on the last connection that measured it. */
  get rttMs(): number | undefined {
    if (this.#state.name === 'connected') this.#rttMs = this.#state.connection.rttMs ?? this.#rttMs;
    return this.#rttMs;
  }

  /** How often in a row a connection was made that did not last. */
  get flaps(): number {
    return this.#outage.flaps;
  }

  /**
   * Sends a message, now or on the next connection. The payload must stay as it is until it is
   * acknowledged.
   * @returns the frame's sequence number
   * @throws GodwitError bad-message or frame-too-large, and the reason of the end when it has ended
   */
  send<K extends Numbered>(
    kind: K,
    message: Messages[K],
    payload: readonly Uint8Array[] = NO_PAYLOAD,
  ): number {
    const state = this.#living();
    const body = encodeBody(kind, message);
    const bytes = checkFrame(kindOf(kind), body, payload) + FRAME_BYTES;
    const sequence = this.#next++;
    if (this.#retained.length === 0) this.#waitingSince = performance.now();
    this.#retained.push({ sequence, kind, body, payload, bytes });
    this.#retainedBytes += bytes;
    if (state.name === 'connected' && state.connection.open)
      state.connection.sendBody(kind, body, payload); // else its end is about to be reported
    return sequence;
  }

  /**
   * Resolves when the link is connected and takes more: to be awaited between large frames. Rejects
   * with the reason when it ends.
   */
  async ready(): Promise<void> {
    const { retainedBytes = RETAINED_BYTES } = this.#options;
    for (;;) {
      const state = this.#living();
      if (state.name === 'lost' || this.#retainedBytes > retainedBytes) {
        this.#changed ??= Promise.withResolvers();
        await this.#changed.promise;
        continue;
      }
      const drained = await state.connection.ready().then(
        () => true,
        () => false, // it ended: the link has another state by now
      );
      if (drained && state === this.#state) return;
    }
  }

  /**
   * Goes on over another connection, on which the peer has told how much it has received. `greet`
   * says on it what must come before the frames that are sent again; it is told how many were
   * received here. A connection that cannot be joined is ended.
   * @throws GodwitError frame-out-of-order, and the reason of the end when the link has ended
   */
  join(connection: Connection, peerReceived: number, greet?: (received: number) => void): void {
    const before = this.#state;
    try {
      this.#checkJoin(peerReceived);
      const { received } = this;
      greet?.(received);
      connection.goOn(peerReceived, received);
    } catch (thrown) {
      connection.destroy(asGodwitError(thrown));
      throw thrown;
    }
    this.#state = { name: 'connected', connection };
    if (before.name === 'connected') before.connection.close();
    this.#heardMs = performance.now();
    this.#waitingSince = this.#heardMs;
    if (peerReceived > 0) this.#acked(peerReceived - 1, 0);
    this.#outage.joined(this.#retained[0]);
    this.#serve(connection);
    for (const { kind, body, payload } of this.#retained)
      if (connection.open) connection.sendBody(kind, body, payload);
    this.#wake();
  }

  /** Drops a connection that is thought to be dead. */
  drop(error: GodwitError): void {
    if (this.#state.name !== 'connected') return;
    const { connection } = this.#state;
    this.#lost(error);
    connection.close();
  }

  /** An attempt to connect again has failed. */
  failedAttempt(error: GodwitError): void {
    this.#outage.failed(error);
  }

  /** The connection does not come back. */
  giveUp(error: GodwitError): void {
    this.#end(error);
  }

  /** Ends the link after what was sent; `onClose` is called before this returns. */
  close(): void {
    const state = this.#state;
    this.#end(undefined);
    if (state.name === 'connected') state.connection.close();
  }

  /** Ends the link for a reason, which the peer is told when it can be. */
  destroy(error: GodwitError): void {
    const state = this.#state;
    this.#end(error);
    if (state.name === 'connected') state.connection.destroy(error);
  }

  #serve(connection: Connection): void {
    const current = () => this.#state.name === 'connected' && this.#state.connection === connection;
    const { onMessage, onInput, heardElsewhere, busy } = this.#options;
    connection.serve({
      onMessage: (received) => {
        if (current()) onMessage(received);
      },
      onAck: (sequence, peerBusy) => {
        if (current()) this.#acked(sequence, peerBusy);
      },
      ...(busy && { busy }),
      onInput: (bytes) => {
        this.#heardMs = performance.now();
        onInput?.(bytes);
      },
      ...(heardElsewhere && { heardElsewhere }),
      onClose: (error) => {
        if (!current()) return;
        if (error !== undefined && isLoss(error)) this.#lost(error);
        else this.#end(error ?? closedHere());
      },
    });
  }

  #lost(error: GodwitError): void {
    if (this.#state.name !== 'connected') return;
    if (!this.#options.mayRejoin()) return this.#end(error);
    const { received, rttMs } = this;
    this.#rttMs = rttMs; // the connection that knows it is let go
    this.#state = { name: 'lost', received };
    this.#outage.lost(error, this.#retained);
    // It may have been the last that there was time for.
    if (this.#state.name === 'lost') this.#options.onLost(error);
  }

  #checkJoin(peerReceived: number): void {
    this.#living();
    const oldest = this.#retained[0]?.sequence ?? this.#next;
    if (peerReceived < oldest || peerReceived > this.#next)
      throw new GodwitError(
        'frame-out-of-order',
        `the peer has received ${peerReceived} frames; ${oldest} to ${this.#next} can be sent again`,
      );
  }

  #acked(sequence: number, busy: number): void {
    let count = 0;
    while (count < this.#retained.length && this.#retained[count]!.sequence <= sequence)
      this.#retainedBytes -= this.#retained[count++]!.bytes;
    if (count === 0) return;
    this.#retained.splice(0, count);
    this.#waitingSince = performance.now();
    this.#outage.over();
    this.#options.onAck?.(sequence, busy);
    this.#wake();
  }

  /** After a stall of our own: what is waiting in the socket is heard first. */
  #look(): void {
    if (this.#stall() === undefined) return;
    setImmediate(() => {
      const stall = this.#stall();
      if (stall) this.drop(stall);
    });
  }

  /** Why the connection is held to be dead, if it is. */
  #stall(): GodwitError | undefined {
    if (this.#state.name !== 'connected' || this.#retained.length === 0) return undefined;
    const { stallMs } = this.#options;
    const now = performance.now();
    const unheardMs = now - Math.max(this.#heardMs, this.#waitingSince);
    const slowestMs = stallMs * SLOWEST_FACTOR;
    if (unheardMs >= stallMs) return stalled(stallMs);
    return now - this.#waitingSince >= slowestMs ? stalled(slowestMs) : undefined;
  }

  #end(error: GodwitError | undefined): void {
    if (this.#state.name === 'ended') return;
    this.#state = { name: 'ended', error: error ?? closedHere() };
    this.#outage.over();
    clearInterval(this.#watch);
    this.#retained = [];
    this.#retainedBytes = 0;
    this.#wake();
    this.#options.onClose(error);
  }

  #living(): Exclude<State, { name: 'ended' }> {
    if (this.#state.name === 'ended') throw this.#state.error;
    return this.#state;
  }

  #wake(): void {
    this.#changed?.resolve();
    this.#changed = undefined;
  }
}

/** The peer's word that it has heard nothing is no decision of its: the connection did not carry. */
function isLoss({ code, fromPeer }: GodwitError): boolean {
  return fromPeer ? code === 'peer-silent' : LOSSES.has(code);
}

function stalled(ms: number): GodwitError {
  return new GodwitError('peer-silent', `the peer acknowledged nothing for ${ms} ms`);
}

function closedHere(): GodwitError {
  return new GodwitError('peer-closed', 'the connection was closed by this side');
}
