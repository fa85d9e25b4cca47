/**
 * Shares a worker's time between the migrations that have tasks in it: whoever has a chunk to work on
 * waits for its turn. One turn is given in each turn of the event loop, so that sockets are served
 * between two chunks; migrations take it one after the other, however many lanes they have here, and
 * those whose guest is suspended come before all others.
 */
export class Turns {
  readonly #urgent: (() => void)[] = [];
  /** By migration, in the order in which it is their turn. */
  readonly #others = new Map<string, (() => void)[]>();
  #giving = false;

  /** Resolves when it is that migration's turn. */
  next(migration: string, urgent: boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = urgent ? this.#urgent : this.#others.get(migration);
    if (waiting === undefined) this.#others.set(migration, [resolve]);
    else waiting.push(resolve);
    if (!this.#giving) setImmediate(() => this.#give());
    this.#giving = true;
    return promise;
  }

  #give(): void {
    (this.#urgent.shift() ?? this.#takeOther())();
    this.#giving = this.#urgent.length > 0 || this.#others.size > 0;
    if (this.#giving) setImmediate(() => this.#give());
  }

  #takeOther(): () => void {
    const [migration, waiting] = this.#others.entries().next().value!;
    const turn = waiting.shift()!;
    this.#others.delete(migration);
    if (waiting.length > 0) this.#others.set(migration, waiting); // behind the others
    return turn;
  }
}

/** Those of this thread. */
export const turns = new Turns();
