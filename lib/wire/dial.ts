import { ask, UNSERVED } from './ask.ts';
import { connectTo, wantedNoMore } from './connect.ts';
import type { Connection } from './connection.ts';
import type { Security } from './credentials.ts';
import { checkWelcome, helloMessage } from './handshake.ts';
import type { LaneOpen, Welcome } from './messages.ts';
import { sendTerms } from './terms.ts';

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  readonly security: Security;
  readonly lanes: number;
  readonly peerTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** Calls the attempt off; not the connection, once it is greeted. */
  readonly signal?: AbortSignal;
}

/**
 * A control connection to a receiver, greeted. Whoever wants to hear what follows takes it over
 * (`Connection.serve`).
 */
export async function dialControl(
  options: DialOptions,
): Promise<{ readonly control: Connection; readonly welcome: Welcome }> {
  const { host, port, security, lanes, peerTimeoutMs, connectTimeoutMs, signal } = options;
  const control = await connectTo(
    { host, port, timeoutMs: connectTimeoutMs, security, signal },
    {
      side: 'sender',
      connection: 'control',
      keepAlive: { pingMs: Math.min(1000, peerTimeoutMs / 4), silenceMs: peerTimeoutMs },
      ...UNSERVED,
    },
  );
  const hello = helloMessage(sendTerms(lanes));
  const welcome = Promise.withResolvers<Welcome>();
  const callOff = () => control.destroy(wantedNoMore());
  signal?.addEventListener('abort', callOff);
  const asking = ask(control, {
    say: () => control.send('Hello', hello),
    answer: 'Welcome',
    limitMs: Math.max(connectTimeoutMs, peerTimeoutMs),
    take: (message) => {
      checkWelcome(hello, message);
      welcome.resolve(message);
    },
  });
  await asking.finally(() => signal?.removeEventListener('abort', callOff));
  await control.ready(); // an Abort that came with Welcome is the answer
  return { control, welcome: await welcome.promise };
}

export interface DialLaneOptions extends Omit<LaneOpen, 'received'> {
  readonly host: string;
  /** The receiver's for that lane. */
  readonly port: number;
  readonly security: Security;
  readonly connectTimeoutMs: number;
  /** Ends the attempt; not the connection, once it is taken. */
  readonly signal: AbortSignal;
}

/**
 * Opens a lane on a connection to the receiver's twin.
 * @param received numbered frames received on the lane so far
 * @param take takes the connection over; it is told how many frames the twin has received
 */
export async function dialLane(
  options: DialLaneOptions,
  received: number,
  take: (lane: Connection, received: number) => void,
): Promise<void> {
  const { host, port, security, connectTimeoutMs, signal, migration, lane, secret } = options;
  const connection = await connectTo(
    { host, port, timeoutMs: connectTimeoutMs, security, signal },
    { side: 'sender', connection: 'data', ...UNSERVED },
  );
  const leave = () => connection.destroy(wantedNoMore());
  signal.addEventListener('abort', leave);
  try {
    await ask(connection, {
      say: () => connection.send('LaneOpen', { migration, lane, secret, received }),
      answer: 'LaneReady',
      limitMs: connectTimeoutMs,
      take: (ready) => take(connection, ready.received),
    });
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
