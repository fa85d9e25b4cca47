import { GodwitError } from '../../errors.ts';
import type { Connection, Received } from '../../wire/connection.ts';
import { Link, STALL_FACTOR } from '../../wire/link.ts';
import type { Basis } from './basis.ts';

export interface ConversationOptions {
  readonly onMessage: (received: Received) => void;
  /** True while a sender that was lost may come back. */
  readonly mayRejoin: () => boolean;
  /** Bytes that have come on its lanes: a sign of life. */
  readonly heardElsewhere: () => number;
  /** The sender cannot be heard any more. */
  readonly onEnd: (error: GodwitError) => void;
}

/** The sender as the destination hears it, over one link at a time. */
export class Conversation {
  readonly #basis: Pick<Basis, 'context' | 'facts' | 'handover'>;
  readonly #options: ConversationOptions;
  #link: Link;

  constructor(
    control: Connection,
    basis: Pick<Basis, 'context' | 'facts' | 'handover'>,
    options: ConversationOptions,
  ) {
    this.#basis = basis;
    this.#options = options;
    this.#link = this.#newLink(control);
  }

  /** How the sender is told something. */
  get link(): Pick<Link, 'send'> {
    return this.#link;
  }

  /** The sender is back on another connection. */
  rejoin(control: Connection, peerReceived: number): void {
    const { context, facts } = this.#basis;
    const greet = (received: number) => void control.send('Rejoined', { received });
    this.#link.join(control, peerReceived, greet);
    if (facts.connectionBack()) context.log('info', 'the sender is back');
  }

  /** The sender finishes the handover from its journal, on a connection of its own. */
  recover(control: Connection): void {
    this.#basis.facts.connectionBack();
    const old = this.#link;
    this.#link = this.#newLink(control);
    old.close();
  }

  close(): void {
    this.#basis.handover.speakThrough(undefined);
    this.#link.close();
  }

  #newLink(control: Connection): Link {
    const link: Link = new Link(control, {
      onMessage: this.#options.onMessage,
      mayRejoin: this.#options.mayRejoin,
      giveUpMs: this.#basis.context.reconnectTimeoutMs,
      stallMs: this.#basis.context.peerTimeoutMs * STALL_FACTOR,
      heardElsewhere: this.#options.heardElsewhere,
      onLost: (error) => this.#lost(error),
      onClose: (error) => {
        if (link === this.#link) this.#ended(error); // else another has taken its place
      },
    });
    this.#basis.handover.speakThrough(link);
    return link;
  }

  #lost(error: GodwitError): void {
    const { context, facts } = this.#basis;
    context.log('warn', `the sender's connection was lost: ${error.message}`);
    facts.connectionLost(error);
  }

  #ended(error = new GodwitError('peer-closed', 'the connection was closed')): void {
    this.#basis.handover.speakThrough(undefined);
    this.#options.onEnd(error);
  }
}
