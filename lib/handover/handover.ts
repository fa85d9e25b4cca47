import { asGodwitError, GodwitError } from '../errors.ts';
import type { GuestCopy, Moment } from '../guest/guest.ts';
import type { Journal } from '../journal/journal.ts';
import type { Channel } from '../wire/channel.ts';
import type { Link } from '../wire/link.ts';
import { HandoverDriver, type HandoverState, type JournalEffect, type Machine } from './driver.ts';
import { faultPoint } from './fault.ts';
import { type Choice, checkChoice, type Dilemma, decided } from './resolve.ts';

/** Characters of a reason that travel or are kept. */
const MAX_TEXT = 1000;

export interface HandoverOptions<Name extends string> {
  readonly migration: string;
  /** In the journal already. */
  readonly start: HandoverState<Name>;
  readonly journal: Journal;
  /** The copy of the guest here; undefined when it is gone. */
  readonly guest: () => Promise<GuestCopy | undefined>;
  /** What the operator wants done at that moment. */
  readonly hook?: (moment: Moment) => Promise<void>;
  /** How the migration went is known. */
  readonly onReport: (moved: boolean, error: GodwitError | undefined) => void;
  /** The journal has the next state. */
  readonly onChange: () => void;
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void;
}

/** A way to the other side: a link that outlives connections, or one connection. */
export type Voice = Pick<Link, 'send' | 'destroy'> | Pick<Channel, 'send' | 'destroy'>;

type AnyEffect = { readonly type: string; readonly epoch?: number };
type DecisionEvent = { readonly type: Choice; readonly error: GodwitError };

/**
 * One side's right to run a guest: the machine with its journal, and whatever connection there is to
 * the other side at the moment. It outlives connections and, by the journal, the agent; it is over
 * when its state is `ended`. The two sides add what their effects do.
 */
export abstract class Handover<
  Name extends string,
  Event extends { readonly type: string },
  Effect extends AnyEffect,
> {
  readonly #options: HandoverOptions<Name>;
  readonly #driver: HandoverDriver<Name, Event | DecisionEvent, Effect>;
  #voice: Voice | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    side: 'source' | 'destination',
    machine: Machine<Name, Event | DecisionEvent, Effect>,
    options: HandoverOptions<Name>,
  ) {
    this.#options = options;
    this.#driver = new HandoverDriver(machine, options.start, {
      journal: (record) =>
        betweenFaults(side, `journal-${record.state}`, () => this.#journal(record)),
      perform: (effect) => betweenFaults(side, effect.type, () => this.perform(effect)),
    });
  }

  get state(): HandoverState<Name> {
    return this.#driver.state;
  }

  /** What a person could decide about it now. */
  abstract get dilemma(): Dilemma;

  protected abstract perform(effect: Exclude<Effect, { type: 'journal' }>): void | Promise<void>;

  /** What is said from here on goes this way; nothing is said without one. */
  speakThrough(voice: Voice | undefined): void {
    this.#voice = voice;
  }

  /** Rejects when an effect failed, so that what rests on it did not happen. */
  dispatch(event: Event | DecisionEvent): Promise<void> {
    const done = this.#driver.dispatch(event);
    this.#last = done.catch(() => {});
    return done;
  }

  /** Resolves when the effects of everything dispatched so far are through. */
  async idle(): Promise<void> {
    for (let last: unknown; last !== this.#last; ) {
      last = this.#last;
      await last;
    }
  }

  /** A person decides, because the other host is gone for good. @throws GodwitError too-late, guest-died */
  async resolve(choice: Choice): Promise<void> {
    checkChoice(this.dilemma, choice);
    if (choice === 'keep-here' && (await this.#options.guest()) === undefined)
      throw new GodwitError('guest-died', 'the guest is gone from this host: nothing to keep');
    await this.dispatch({ type: choice, error: decided(choice) });
  }

  /** What is lost on the way is said again on the next connection. */
  protected say(send: (voice: Voice) => void): void {
    if (this.#voice === undefined) return;
    try {
      send(this.#voice);
    } catch (thrown) {
      this.#options.log('warn', asGodwitError(thrown).message);
    }
  }

  /** Runs the operator's command for something that has happened; the migration does not wait for it. */
  protected happened(moment: Moment): void {
    this.#options.hook?.(moment).catch((thrown) => {
      this.#options.log('error', asGodwitError(thrown).message);
    });
  }

  /** Ends the connection with a reason. */
  protected hangUp(error: GodwitError): void {
    this.#voice?.destroy(error);
  }

  async #journal({ state, epoch, error }: JournalEffect<Name>): Promise<void> {
    const { journal, migration, onChange } = this.#options;
    const why = error && { code: error.code, text: wordsOf(error) };
    await journal.append({ migration, state, epoch, ...why });
    onChange();
  }
}

async function betweenFaults(
  side: string,
  effect: string,
  work: () => void | Promise<void>,
): Promise<void> {
  faultPoint(`${side}.before.${effect}`);
  await work();
  faultPoint(`${side}.after.${effect}`);
}

/** An error's words as they travel and are kept. */
export function wordsOf({ message }: GodwitError): string {
  return message.slice(0, MAX_TEXT).toWellFormed();
}
