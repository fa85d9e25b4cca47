import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { Channel } from '../lib/wire/channel.ts';
import { connectChannel } from '../lib/wire/connect.ts';
import type { Security } from '../lib/wire/credentials.ts';
import { checkWelcome, helloMessage } from '../lib/wire/handshake.ts';
import type { Welcome } from '../lib/wire/messages.ts';
import { sendTerms } from '../lib/wire/terms.ts';

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  readonly security: Security;
  readonly channels: number;
  readonly peerTimeoutMs: number;
  readonly connectTimeoutMs: number;
}

/**
 * A control connection to a receiver, greeted. Whoever wants to hear what follows takes it over
 * (`Channel.serve`).
 */
export async function dialControl(
  options: DialOptions,
): Promise<{ readonly control: Channel; readonly welcome: Welcome }> {
  const { host, port, security, channels, peerTimeoutMs, connectTimeoutMs } = options;
  const greeted = Promise.withResolvers<Welcome>();
  const control = await connectChannel(
    { host, port, timeoutMs: connectTimeoutMs, security },
    {
      side: 'sender',
      connection: 'control',
      keepAlive: { pingMs: Math.min(1000, peerTimeoutMs / 4), silenceMs: peerTimeoutMs },
      onMessage: ({ kind, message }) => {
        if (kind !== 'Welcome')
          throw new GodwitError('bad-message', `the receiver sent ${kind} before Welcome`);
        greeted.resolve(message);
      },
      onClose: (error) =>
        greeted.reject(error ?? new GodwitError('peer-closed', 'the connection was closed')),
    },
  );
  const hello = helloMessage(sendTerms(channels));
  control.send('Hello', hello);
  const welcome = await greeted.promise;
  try {
    checkWelcome(hello, welcome);
  } catch (error) {
    control.destroy(asGodwitError(error));
    throw error;
  }
  return { control, welcome };
}
