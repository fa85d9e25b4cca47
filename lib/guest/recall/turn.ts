const OPEN = 0;
const HOLDERS = { handover: 1, recall: 2 } as const;
type Holder = keyof typeof HOLDERS;

/**
 * Whose turn it is with a suspended guest: the handover's, which is about to give it away, or the
 * recall's, which makes it run again here because its time is up. One atomic word that two threads
 * share: whoever takes it first acts, the other one never does.
 */
export class Turn {
  readonly #word: Int32Array<SharedArrayBuffer>;

  /** @param shared of the other thread's; without it the turn is open */
  constructor(shared = new SharedArrayBuffer(4)) {
    this.#word = new Int32Array(shared);
  }

  /** For the other thread. */
  get shared(): SharedArrayBuffer {
    return this.#word.buffer;
  }

  /** The recall has taken it. */
  get isRecalled(): boolean {
    return Atomics.load(this.#word, 0) === HOLDERS.recall;
  }

  /** True when it is the holder's, now or already. */
  take(holder: Holder): boolean {
    const mine = HOLDERS[holder];
    const was = Atomics.compareExchange(this.#word, 0, OPEN, mine);
    return was === OPEN || was === mine;
  }
}
