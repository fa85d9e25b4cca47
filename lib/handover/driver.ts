import assert from 'node:assert/strict';
import type { GodwitError } from '../errors.ts';

/** What both machines' states and effects have in common. */
export interface HandoverState<Name extends string> {
  readonly name: Name;
  readonly epoch: number;
}

export interface JournalEffect<Name extends string> {
  readonly type: 'journal';
  readonly state: Name;
  readonly epoch: number;
  readonly error: GodwitError | undefined;
}

type AnyEffect = { readonly type: string; readonly epoch?: number };

/** A pure machine, and which durable states allow which of its effects. */
export interface Machine<Name extends string, Event, Effect extends AnyEffect> {
  readonly step: (
    state: HandoverState<Name>,
    event: Event,
  ) => { readonly state: HandoverState<Name>; readonly effects: readonly Effect[] };
  readonly proof: { readonly [type: string]: readonly Name[] | undefined };
}

export interface HandoverHooks<Name extends string, Effect> {
  /** Resolves when the record is durable. */
  readonly journal: (record: JournalEffect<Name>) => Promise<void>;
  /** Does everything else. */
  readonly perform: (effect: Exclude<Effect, { type: 'journal' }>) => void | Promise<void>;
}

/**
 * Runs a handover machine: one event at a time, its effects one after the other in the order in
 * which the machine gave them.
 *
 * The journal comes first: an effect is performed only while the durable state allows it. When a
 * record cannot be written, the effects that need it are left out and the state goes back to what
 * it was, so that a restart finds what this process believes. Any other effect that fails ends the
 * list: what follows may rest on it.
 */
export class HandoverDriver<Name extends string, Event, Effect extends AnyEffect> {
  readonly #machine: Machine<Name, Event, Effect>;
  readonly #hooks: HandoverHooks<Name, Effect>;
  #state: HandoverState<Name>;
  #durable: HandoverState<Name>;
  #tail: Promise<void> = Promise.resolve();

  /** `start` is in the journal already. */
  constructor(
    machine: Machine<Name, Event, Effect>,
    start: HandoverState<Name>,
    hooks: HandoverHooks<Name, Effect>,
  ) {
    this.#machine = machine;
    this.#state = start;
    this.#durable = start;
    this.#hooks = hooks;
  }

  get state(): HandoverState<Name> {
    return this.#state;
  }

  /**
   * Takes the event when the effects of those before it are through. Resolves when its own are;
   * rejects with what kept them from it.
   */
  dispatch(event: Event): Promise<void> {
    const done = this.#tail.then(() => this.#take(event));
    this.#tail = done.catch(() => {});
    return done;
  }

  async #take(event: Event): Promise<void> {
    const before = this.#state;
    const { state, effects } = this.#machine.step(before, event);
    this.#state = state;
    let unwritten: unknown;
    for (const effect of effects) {
      if (isJournal<Name>(effect)) {
        try {
          await this.#hooks.journal(effect);
          this.#durable = { name: effect.state, epoch: effect.epoch };
        } catch (error) {
          unwritten = error;
        }
      } else if (unwritten !== undefined && !this.#allowed(effect)) {
        this.#state = before;
        throw unwritten;
      } else {
        assert(
          this.#allowed(effect),
          `${effect.type} while the journal says ${this.#durable.name}`,
        );
        await this.#hooks.perform(effect as Exclude<Effect, { type: 'journal' }>);
      }
    }
    if (unwritten !== undefined) throw unwritten;
  }

  #allowed({ type, epoch }: Effect): boolean {
    const states = this.#machine.proof[type];
    if (states === undefined) return true;
    return (
      states.includes(this.#durable.name) && (epoch ?? this.#durable.epoch) === this.#durable.epoch
    );
  }
}

function isJournal<Name extends string>(effect: AnyEffect): effect is JournalEffect<Name> {
  return effect.type === 'journal';
}
