import { ask } from './ask.ts';
import type { Connection } from './connection.ts';
import { Link, type LinkOptions } from './link.ts';
import type { Welcome } from './messages.ts';
import { redial } from './redial.ts';

export interface ControlLinkOptions extends LinkOptions {
  /** A connection to the receiver, greeted. */
  readonly dial: () => Promise<{ readonly control: Connection; readonly welcome: Welcome }>;
  readonly migration: string;
  /** What the receiver knows the migration by, once it has accepted it. */
  readonly secret: () => Uint8Array;
  /** Time for Rejoined, ms. */
  readonly answerMs: number;
  readonly onBack: () => void;
}

/** The control link of a migration over its first connection; it makes further ones by itself. */
export async function openControlLink(options: ControlLinkOptions) {
  const { control, welcome } = await options.dial();
  const link: Link = new Link(control, {
    ...options,
    onLost: (error) => {
      options.onLost(error);
      redial(link, () => rejoin(link, options));
    },
  });
  return { link, welcome, peerIdentity: control.peerIdentity };
}

async function rejoin(link: Link, options: ControlLinkOptions): Promise<void> {
  const { dial, migration, secret, answerMs, onBack } = options;
  const { control } = await dial();
  await ask(control, {
    say: () => control.send('Rejoin', { migration, secret: secret(), received: link.received }),
    answer: 'Rejoined',
    limitMs: answerMs,
    take: ({ received }) => link.join(control, received),
  });
  onBack();
}
