import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { Channel, Received } from '../lib/wire/channel.ts';
import { Link } from '../lib/wire/link.ts';
import type { Welcome } from '../lib/wire/messages.ts';
import { redial } from '../lib/wire/redial.ts';

export interface ControlLinkOptions {
  /** A connection to the receiver, greeted. */
  readonly dial: () => Promise<{ readonly control: Channel; readonly welcome: Welcome }>;
  readonly migration: string;
  /** What the receiver knows the migration by, once it has accepted it. */
  readonly secret: () => Uint8Array;
  readonly reconnectTimeoutMs: number;
  /** Aborts when the link is wanted no more. */
  readonly signal: AbortSignal;
  readonly onMessage: (received: Received) => void;
  /** Whether a lost connection is to be made again. */
  readonly mayRejoin: () => boolean;
  readonly onLost: (error: GodwitError) => void;
  readonly onBack: () => void;
  readonly onClose: (error: GodwitError | undefined) => void;
}

/** The control link of a migration over its first connection; it makes further ones by itself. */
export async function openControlLink(options: ControlLinkOptions) {
  const { control, welcome } = await options.dial();
  const link: Link = new Link(control, {
    onMessage: options.onMessage,
    mayRejoin: options.mayRejoin,
    onLost: (error) => {
      options.onLost(error);
      reconnect(link, error, options);
    },
    onClose: options.onClose,
  });
  return { link, welcome };
}

function reconnect(link: Link, lost: GodwitError, options: ControlLinkOptions): void {
  const { reconnectTimeoutMs: timeoutMs, signal } = options;
  const attempt = () => rejoin(link, options);
  redial({ lost, timeoutMs, signal, attempt }).catch((error) => link.giveUp(asGodwitError(error)));
}

async function rejoin(link: Link, options: ControlLinkOptions): Promise<void> {
  const { control } = await options.dial();
  const rejoined = Promise.withResolvers<number>();
  control.serve({
    onMessage: ({ kind, message }) => {
      if (kind !== 'Rejoined')
        throw new GodwitError('bad-message', `the receiver sent ${kind} before Rejoined`);
      rejoined.resolve(message.received);
    },
    onClose: (error) =>
      rejoined.reject(error ?? new GodwitError('peer-closed', 'the connection was closed')),
  });
  const { migration, secret } = options;
  control.send('Rejoin', { migration, secret: secret(), received: link.received });
  link.join(control, await rejoined.promise);
  options.onBack();
}
