/** The word by which any thread ends a stream that another one reads. */
export class StreamEnd {
  readonly #word: Int32Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer) {
    this.#word = new Int32Array(shared);
  }

  end(): void {
    Atomics.store(this.#word, 0, 1);
    Atomics.notify(this.#word, 0);
  }

  get isEnded(): boolean {
    return Atomics.load(this.#word, 0) !== 0;
  }

  /** Resolves when it is ended. */
  async ended(): Promise<void> {
    const waiting = Atomics.waitAsync(this.#word, 0, 0);
    if (waiting.async) await waiting.value;
  }
}
