const INTERRUPTED = 130;

/** What has been made and is to be ended, the last first, whatever happens. */
export class Cleanup implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  #ended: Promise<void> | undefined;

  get isOver(): boolean {
    return this.#ended !== undefined;
  }

  defer(end: () => void | Promise<void>): void {
    this.#stack.defer(end);
  }

  /** Makes something that has to be ended, unless it is over; what cannot be made leaves nothing. */
  keep<T>(make: () => Promise<T>, end: (made: T) => Promise<void>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<T>();
    this.#stack.defer(() => promise.then(end, () => {}));
    resolve(make());
    return promise;
  }

  /** A part that may be over before all is. */
  part(): Cleanup {
    const part = new Cleanup();
    this.#stack.defer(() => part.end());
    return part;
  }

  /** Waits for what is being made; from now on nothing is made any more. */
  end(): Promise<void> {
    this.#ended ??= this.#stack.disposeAsync();
    return this.#ended;
  }

  /** Ends it and the process on Ctrl-C. */
  endOnSignal(): void {
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, async () => {
        console.error('\ncleaning up');
        await this.end();
        process.exit(INTERRUPTED);
      });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }
}
