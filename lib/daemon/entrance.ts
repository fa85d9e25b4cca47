import type { Server, Socket } from 'node:net';
import { GodwitError } from '../errors.ts';
import { type AllowList, fingerprintOf } from '../wire/certificate-names.ts';
import type { Credentials } from '../wire/credentials.ts';
import { peerName, tellOff } from '../wire/door.ts';
import { secureServer } from '../wire/tls.ts';
import type { Admission, Stranger } from './admission.ts';

export interface EntranceOptions {
  /** Undefined: connections are plain. */
  readonly credentials: Credentials | undefined;
  readonly allowed: AllowList;
  readonly admission: Admission;
  readonly onConnection: (visitor: Visitor) => void;
}

/** A connection that may speak. */
export interface Visitor {
  readonly socket: Socket;
  /** Its address and port, for people. */
  readonly peer: string;
  /** Of its certificate; empty without one. */
  readonly fingerprint: string;
  /** To be told over the connection, and then it ends. */
  readonly refusal: GodwitError | undefined;
  readonly stranger: Stranger;
}

/** What is shown to those who connect, and who of them may come in. */
export type Terms = Pick<EntranceOptions, 'credentials' | 'allowed'>;

/**
 * Has everything that connects to a server counted before a byte is read, TLS spoken, and names judged.
 * @returns other terms for whoever connects from then on; with TLS as before, or without as before
 */
export function openEntrance(server: Server, options: EntranceOptions): (terms: Terms) => void {
  const { credentials, admission, onConnection } = options;
  let { allowed } = options;
  /** By address and port: a TLS connection does not say over which socket it goes. */
  const strangers = new Map<string, Stranger>();
  const admit = (socket: Socket): Stranger | undefined => {
    const stranger = admission.enter(socket);
    const peer = peerName(socket);
    if (stranger === undefined) return undefined;
    strangers.set(peer, stranger);
    socket.once('close', () => strangers.delete(peer));
    return stranger;
  };
  if (credentials === undefined) {
    server.on('connection', (socket) => {
      const stranger = admit(socket);
      const peer = peerName(socket);
      if (stranger) onConnection({ socket, peer, fingerprint: '', refusal: undefined, stranger });
    });
    return () => {}; // nothing is shown, and nobody is judged
  }
  const renew = secureServer(server, {
    credentials,
    accepts: (socket) => admit(socket) !== undefined,
    refuses: (certificate) =>
      allowed.admits(certificate) ? undefined : 'is not on the allow-list (--allow-peer)',
    onConnection: (socket, refusal) => {
      const peer = peerName(socket);
      const stranger = strangers.get(peer);
      if (stranger === undefined) return void socket.destroy(); // it has just gone
      const fingerprint = fingerprintOf(socket.getPeerCertificate());
      onConnection({ socket, peer, fingerprint, refusal, stranger });
    },
    onPlain: (socket) => {
      const error = new GodwitError(
        'tls-required',
        'the destination takes connections over TLS only: give the sender --tls-cert, --tls-key and --tls-ca',
      );
      strangers.get(peerName(socket))?.failed(error);
      tellOff(socket, error);
    },
    onFailure: (error, socket) => {
      strangers.get(peerName(socket))?.failed(error);
      socket.destroy();
    },
  });
  return (terms) => {
    allowed = terms.allowed;
    if (terms.credentials !== undefined) renew(terms.credentials);
  };
}
