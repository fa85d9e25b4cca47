import { asGodwitError, GodwitError } from '../errors.ts';
import type { Channel, Received } from './channel.ts';
import type { KindName } from './kinds.ts';
import type { Messages } from './messages.ts';

/** Bytes that may wait for an acknowledgement before `ready` makes the sender wait. */
const RETAINED_BYTES = 8 << 20;
/** A frame's header and small fields, for counting what is retained. */
const FRAME_BYTES = 64;

const NO_PAYLOAD: readonly Uint8Array[] = [];

/** Codes of a connection that went away, as opposed to one that was ended for a reason. */
const LOSSES: ReadonlySet<string> = new Set(['peer-closed', 'peer-silent']);

export interface LinkOptions {
  /** Called once for each numbered frame, in order; what it throws ends the link. */
  readonly onMessage: (received: Received) => void;
  /** The peer has dealt with every frame up to this one. */
  readonly onAck?: (sequence: number) => void;
  /** True while a lost connection may be followed by another one. */
  readonly mayRejoin: () => boolean;
  /** The connection was lost; what is sent waits for `join`. */
  readonly onLost: (error: GodwitError) => void;
  /** The link has ended, called exactly once. Without an error: this side closed it. */
  readonly onClose: (error?: GodwitError) => void;
}

interface Retained {
  readonly sequence: number;
  readonly kind: Exclude<KindName, 'Ack'>;
  readonly message: Messages[KindName];
  readonly payload: readonly Uint8Array[];
  readonly bytes: number;
}

/**
 * One stream of a migration over as many connections, one after the other, as it takes: every
 * numbered frame is kept, by reference, until the peer has dealt with it, and sent again on the next
 * connection when it had not (proto/WIRE.md, Links).
 */
export class Link {
  readonly #options: LinkOptions;
  #channel: Channel;
  #connected = true;
  #ended: GodwitError | true | undefined;
  #next = 0;
  /** As of the connection before this one. */
  #received = 0;
  readonly #retained: Retained[] = [];
  #retainedBytes = 0;
  #room: PromiseWithResolvers<void> | undefined;

  /** Over a channel that has been greeted; only unnumbered frames were exchanged on it. */
  constructor(channel: Channel, options: LinkOptions) {
    this.#options = options;
    this.#channel = channel;
    this.#serve(channel);
  }

  /** False while it waits to be joined again. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Numbered frames received so far, for Rejoin. */
  get received(): number {
    return this.#connected ? this.#channel.received : this.#received;
  }

  get rttMs(): number | undefined {
    return this.#channel.rttMs;
  }

  /**
   * Sends a message, now or on the next connection. The payload must stay as it is until it is
   * acknowledged.
   * @returns the frame's sequence number
   * @throws GodwitError bad-message or frame-too-large, and the reason of the end when it has ended
   */
  send<K extends Exclude<KindName, 'Ack'>>(
    kind: K,
    message: Messages[K],
    payload: readonly Uint8Array[] = NO_PAYLOAD,
  ): number {
    this.#check();
    const sequence = this.#next;
    if (this.#connected) this.#channel.send(kind, message, payload);
    const bytes = payload.reduce((sum, part) => sum + part.length, FRAME_BYTES);
    this.#retained.push({ sequence, kind, message, payload, bytes });
    this.#retainedBytes += bytes;
    this.#next++;
    return sequence;
  }

  /** Resolves when the link takes more: to be awaited between large frames. Rejects when it ends. */
  async ready(): Promise<void> {
    this.#check();
    while (!this.#connected || this.#retainedBytes > RETAINED_BYTES) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
      this.#check();
    }
    await this.#channel.ready().catch((error) => {
      if (this.#ended !== undefined) throw error;
    });
  }

  /** Goes on over another connection, on which the peer has told how much it has received. */
  join(channel: Channel, peerReceived: number): void {
    this.#check();
    const oldest = this.#retained[0]?.sequence ?? this.#next;
    if (peerReceived < oldest || peerReceived > this.#next)
      throw new GodwitError(
        'frame-out-of-order',
        `the peer has received ${peerReceived} frames; ${oldest} to ${this.#next} can be sent again`,
      );
    const { received } = this;
    const old = this.#channel;
    const replaced = this.#connected;
    this.#channel = channel;
    this.#connected = true;
    if (replaced) old.close();
    channel.goOn(peerReceived, received);
    this.#serve(channel);
    if (peerReceived > 0) this.#acked(peerReceived - 1);
    try {
      for (const { kind, message, payload } of this.#retained)
        channel.send(kind, message as never, payload);
    } catch (error) {
      this.drop(asGodwitError(error)); // lost again already
    }
    this.#wake();
  }

  /** Drops a connection that is thought to be dead. */
  drop(error: GodwitError): void {
    if (!this.#connected) return;
    const channel = this.#channel;
    this.#lost(error);
    channel.close();
  }

  /** The connection does not come back. */
  giveUp(error: GodwitError): void {
    this.#end(error);
  }

  /** Ends the link after what was sent. */
  close(): void {
    if (this.#ended !== undefined) return;
    if (this.#connected) this.#channel.close();
    else this.#end(undefined);
  }

  /** Ends the link for a reason, which the peer is told when it can be. */
  destroy(error: GodwitError): void {
    if (this.#ended !== undefined) return;
    if (this.#connected) this.#channel.destroy(error);
    this.#end(error);
  }

  #serve(channel: Channel): void {
    const current = () => this.#channel === channel && this.#ended === undefined;
    channel.serve({
      onMessage: (received) => {
        if (current()) this.#options.onMessage(received);
      },
      onAck: (sequence) => {
        if (!current()) return;
        this.#acked(sequence);
      },
      onClose: (error) => {
        if (!current() || !this.#connected) return;
        const lost = error && !error.fromPeer && LOSSES.has(error.code);
        if (lost && this.#options.mayRejoin()) this.#lost(error);
        else this.#end(error);
      },
    });
  }

  #lost(error: GodwitError): void {
    this.#received = this.#channel.received;
    this.#connected = false;
    this.#options.onLost(error);
  }

  #acked(sequence: number): void {
    while (this.#retained.length > 0 && this.#retained[0]!.sequence <= sequence)
      this.#retainedBytes -= this.#retained.shift()!.bytes;
    this.#options.onAck?.(sequence);
    this.#wake();
  }

  #end(error: GodwitError | undefined): void {
    if (this.#ended !== undefined) return;
    this.#ended = error ?? true;
    this.#retained.length = 0;
    this.#wake();
    this.#options.onClose(error);
  }

  #check(): void {
    if (this.#ended === undefined) return;
    if (this.#ended !== true) throw this.#ended;
    throw new GodwitError('peer-closed', 'the connection was closed by this side');
  }

  #wake(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}
