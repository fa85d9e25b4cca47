import { asGodwitError, GodwitError } from '../errors.ts';
import type { Connection } from '../wire/connection.ts';
import type { SourceHandover } from './source-handover.ts';

/** Pauses between two attempts to reach the destination, ms: the first, and where they stop to grow. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** A destination that answers and then leaves something out is asked again after this, ms. */
const ANSWER_MS = 10_000;

export interface SettlementOptions {
  readonly handover: SourceHandover;
  readonly migration: string;
  readonly secret: Uint8Array;
  /** A new control connection to the destination, greeted. */
  readonly dial: () => Promise<Connection>;
  /** Why the destination cannot be asked; undefined: it is being asked. */
  readonly onWaiting: (reason: GodwitError | undefined) => void;
}

/**
 * Finishes an open handover with the destination, however long it takes to reach it: says Recover,
 * hears where the destination stands, and lets both machines say the rest.
 */
export class Settlement {
  readonly #options: SettlementOptions;
  #stopped = false;
  #wake: (() => void) | undefined;

  constructor(options: SettlementOptions) {
    this.#options = options;
  }

  /** Resolves when there is nothing left to tell, or after `stop`. */
  async run(): Promise<void> {
    const { handover, onWaiting } = this.#options;
    let pauseMs = FIRST_PAUSE_MS;
    while (!this.#over) {
      try {
        await this.#converse();
        pauseMs = FIRST_PAUSE_MS;
      } catch (thrown) {
        const error = asGodwitError(thrown);
        if (error.fromPeer && error.code === 'unknown-migration')
          await handover.hearForgotten().catch(() => {});
        if (!this.#over) onWaiting(error);
      }
      if (this.#over) break;
      await this.#pause(pauseMs * (0.75 + Math.random() / 2));
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  /** Tries again now: something has changed. */
  hurry(): void {
    this.#wake?.();
  }

  /** Leaves it to the journal. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  get #over(): boolean {
    const { name, told } = this.#options.handover.state;
    return this.#stopped || told || name === 'ended' || name === 'superseded';
  }

  /** One link to the destination, until there is nothing left to say or it is lost. */
  async #converse(): Promise<void> {
    const { handover, migration, secret, dial, onWaiting } = this.#options;
    const closed = Promise.withResolvers<void>();
    closed.promise.catch(() => {}); // it may be over before anybody waits for it
    const control = await dial();
    control.serve({
      onMessage: (received) => {
        if (!handover.hear(received))
          throw new GodwitError('bad-message', `${received.kind} has no place in a recovery`);
        onWaiting(undefined);
        void handover.idle().then(() => this.#over && closed.resolve());
      },
      onClose: (error) => (error ? closed.reject(error) : closed.resolve()),
    });
    const silence = setTimeout(() => {
      const text = 'the destination was asked and does not say how the migration ended';
      closed.reject(new GodwitError('peer-silent', text));
    }, ANSWER_MS);
    handover.speakThrough(control);
    try {
      const { name: state, epoch } = handover.state;
      control.send('Recover', { migration, secret, epoch, state });
      await closed.promise;
    } finally {
      clearTimeout(silence);
      handover.speakThrough(undefined);
      control.close();
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
