import type { Socket } from 'node:net';
import { GodwitError } from '../lib/errors.ts';
import { Channel, type Received } from '../lib/wire/channel.ts';
import { chooseWelcome } from '../lib/wire/handshake.ts';
import type { GuestOffer, Recover, Welcome } from '../lib/wire/messages.ts';
import { receiveTerms } from '../lib/wire/terms.ts';

/** Time that a connection gets to say what it wants, ms. */
const GREETING_MS = 5000;

/** Who takes a connection once it has said what it wants. */
export interface Host {
  readonly onMessage: (received: Received) => void;
  readonly onClose: (error?: GodwitError) => void;
}

export interface DoorOptions {
  readonly peerTimeoutMs: number;
  /** A new migration. @throws GodwitError to turn it away */
  readonly offer: (offer: GuestOffer, welcome: Welcome, control: Channel) => Host;
  /** An open handover that is to be finished. @throws GodwitError unknown-migration */
  readonly recover: (recover: Recover, control: Channel) => Host;
  /** It went away, or was sent away, before it was taken in. */
  readonly onTurnedAway: (error: GodwitError, peer: string) => void;
}

/** Greets one connection, hears what it wants, and hands it to whom it concerns. */
export function admit(socket: Socket, options: DoorOptions): Channel {
  const { peerTimeoutMs } = options;
  const peer = peerName(socket);
  let welcome: Welcome | undefined;
  let host: Host | undefined;
  const control = new Channel(socket, {
    side: 'receiver',
    connection: 'control',
    keepAlive: { pingMs: Math.min(1000, peerTimeoutMs / 4), silenceMs: peerTimeoutMs },
    onMessage: (received) => {
      if (host !== undefined) return host.onMessage(received);
      const { kind, message } = received;
      if (welcome === undefined) {
        if (kind !== 'Hello') throw outOfPlace(kind);
        welcome = chooseWelcome(message, receiveTerms());
        control.send('Welcome', welcome);
        return;
      }
      if (kind === 'GuestOffer') host = options.offer(message, welcome, control);
      else if (kind === 'Recover') host = options.recover(message, control);
      else throw outOfPlace(kind);
      clearTimeout(timer);
    },
    onClose: (error) => {
      clearTimeout(timer);
      if (host !== undefined) return host.onClose(error);
      const left = error ?? new GodwitError('peer-closed', 'the connection was closed');
      options.onTurnedAway(left, peer);
    },
  });
  const timer = setTimeout(() => {
    const text = `the connection did not say what it wants within ${GREETING_MS} ms`;
    control.destroy(new GodwitError('peer-silent', text));
  }, GREETING_MS);
  return control;
}

/** For people: where a connection comes from. */
export function peerName({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? 'unknown'}:${remotePort ?? 0}`;
}

function outOfPlace(kind: string): GodwitError {
  return new GodwitError('bad-message', `the sender sent ${kind} where it has no place`);
}
