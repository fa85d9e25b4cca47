import { GodwitError } from '../lib/errors.ts';
import type { Channel, ChannelOptions } from '../lib/wire/channel.ts';
import { connectChannel } from '../lib/wire/connect.ts';
import { checkWelcome, helloMessage } from '../lib/wire/handshake.ts';
import type { Welcome } from '../lib/wire/messages.ts';
import { sendTerms } from '../lib/wire/terms.ts';

export interface DialOptions extends Pick<ChannelOptions, 'onMessage' | 'onClose'> {
  readonly host: string;
  readonly port: number;
  readonly channels: number;
  readonly peerTimeoutMs: number;
  readonly connectTimeoutMs: number;
}

/** A control connection to a receiver, greeted: what follows Welcome goes to `onMessage`. */
export async function dialControl(
  options: DialOptions,
): Promise<{ readonly control: Channel; readonly welcome: Welcome }> {
  const { host, port, channels, peerTimeoutMs, connectTimeoutMs, onMessage, onClose } = options;
  const welcome = Promise.withResolvers<Welcome>();
  let greeted = false;
  const control = await connectChannel(
    { host, port, timeoutMs: connectTimeoutMs },
    {
      side: 'sender',
      connection: 'control',
      keepAlive: { pingMs: Math.min(1000, peerTimeoutMs / 4), silenceMs: peerTimeoutMs },
      onMessage: (received) => {
        if (greeted) return onMessage(received);
        if (received.kind !== 'Welcome')
          throw new GodwitError('bad-message', `the receiver said ${received.kind} before Welcome`);
        greeted = true;
        welcome.resolve(received.message);
      },
      onClose: (error) => {
        welcome.reject(error ?? new GodwitError('peer-closed', 'the connection was closed'));
        if (greeted) onClose(error);
      },
    },
  );
  const hello = helloMessage(sendTerms(channels));
  control.send('Hello', hello);
  checkWelcome(hello, await welcome.promise);
  return { control, welcome: await welcome.promise };
}
