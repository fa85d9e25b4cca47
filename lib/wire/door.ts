import type { Socket } from 'node:net';
import { GodwitError } from '../errors.ts';
import { Connection } from './connection.ts';
import { chooseWelcome } from './handshake.ts';
import type { Check, GuestOffer, Recover, Rejoin, Welcome } from './messages.ts';
import { CHECK_FEATURE, receiveTerms } from './terms.ts';

/** Time that a connection gets to say what it wants, ms; more where peers may be silent for longer. */
const GREETING_MS = 5000;

export interface DoorOptions {
  readonly peerTimeoutMs: number;
  // Each takes the connection over (`Connection.serve`), or throws to turn it away.
  readonly offer: (offer: GuestOffer, control: Connection, welcome: Welcome) => void;
  readonly rejoin: (rejoin: Rejoin, control: Connection) => void;
  readonly recover: (recover: Recover, control: Connection) => void;
  readonly check: (check: Check, control: Connection, welcome: Welcome) => void;
  /** It went away, or was sent away, before it was taken in. */
  readonly onTurnedAway: (error: GodwitError) => void;
}

/** Greets one connection, hears what it wants, and hands it to whom it concerns. */
export function admit(socket: Socket, options: DoorOptions): Connection {
  const { peerTimeoutMs } = options;
  let welcome: Welcome | undefined;
  const control = new Connection(socket, {
    side: 'receiver',
    connection: 'control',
    keepAlive: { pingMs: Math.min(1000, peerTimeoutMs / 4), silenceMs: peerTimeoutMs },
    onMessage: ({ kind, message }) => {
      if (welcome === undefined) {
        if (kind !== 'Hello') throw outOfPlace(kind);
        welcome = chooseWelcome(message, receiveTerms());
        control.send('Welcome', welcome);
        return;
      }
      if (kind === 'GuestOffer') options.offer(message, control, welcome);
      else if (kind === 'Rejoin') options.rejoin(message, control);
      else if (kind === 'Recover') options.recover(message, control);
      else if (kind === 'Check' && welcome.features.includes(CHECK_FEATURE))
        options.check(message, control, welcome);
      else throw outOfPlace(kind);
      clearTimeout(timer);
    },
    onClose: (error) => {
      clearTimeout(timer);
      const left = error ?? new GodwitError('peer-closed', 'the connection was closed');
      options.onTurnedAway(left);
    },
  });
  const greetingMs = Math.max(GREETING_MS, peerTimeoutMs);
  const timer = setTimeout(() => {
    const text = `the connection did not say what it wants within ${greetingMs} ms`;
    control.destroy(new GodwitError('peer-silent', text));
  }, greetingMs);
  return control;
}

/** Ends a connection that said hello, for a reason that its peer hears. */
export function tellOff(socket: Socket, error: GodwitError): void {
  const control = new Connection(socket, {
    side: 'receiver',
    connection: 'control',
    onMessage: () => {},
    onClose: () => {},
  });
  control.destroy(error);
}

/** For people: where a connection comes from. */
export function peerName({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? 'unknown'}:${remotePort ?? 0}`;
}

function outOfPlace(kind: string): GodwitError {
  return new GodwitError('bad-message', `the sender sent ${kind} where it has no place`);
}
