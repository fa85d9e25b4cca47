/** A pure machine: state and event in, state and effects out. */
export type Step<State, Event, Effect> = (
  state: State,
  event: Event,
) => { readonly state: State; readonly effects: readonly Effect[] };

/**
 * Runs a handover machine: the state changes the moment an event arrives, the effects follow one
 * after the other in the order in which the machine gave them. An effect that fails does not keep
 * the later ones from being tried.
 */
export class HandoverDriver<State, Event, Effect> {
  readonly #step: Step<State, Event, Effect>;
  readonly #perform: (effect: Effect) => void | Promise<void>;
  #state: State;
  #tail: Promise<void> = Promise.resolve();

  constructor(
    step: Step<State, Event, Effect>,
    start: State,
    perform: (effect: Effect) => void | Promise<void>,
  ) {
    this.#step = step;
    this.#state = start;
    this.#perform = perform;
  }

  get state(): State {
    return this.#state;
  }

  /** Resolves when the effects of this event are through; rejects with the first that failed. */
  dispatch(event: Event): Promise<void> {
    const { state, effects } = this.#step(this.#state, event);
    this.#state = state;
    const done = this.#tail.then(() => this.#performAll(effects));
    this.#tail = done.catch(() => {});
    return done;
  }

  async #performAll(effects: readonly Effect[]): Promise<void> {
    const failures: unknown[] = [];
    for (const effect of effects) {
      try {
        await this.#perform(effect);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
