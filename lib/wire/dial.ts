import { ask, UNSERVED } from './ask.ts';
import { connectTo, wantedNoMore } from './connect.ts';
import type { Connection } from './connection.ts';
import type { Security } from './credentials.ts';
import { checkWelcome, helloMessage } from './handshake.ts';
import type { Welcome } from './messages.ts';
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
