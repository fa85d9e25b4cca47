import { setTimeout as sleep } from 'node:timers/promises';
import type { PageSet } from '../memory/page-set.ts';

/** While pages come in, time between two looks at what has arrived, ms. */
const LOOK_MS = 20;

/** Hands pages on to a hypervisor that does not see the memory in which they arrive. */
export class Forwarding {
  readonly #arrivals: PageSet;
  readonly #forward: (pages: PageSet) => Promise<void>;
  #last: Promise<void> = Promise.resolve();
  #stopped = false;

  /** @param forward resolves when the hypervisor has them; called for one set after the other */
  constructor(arrivals: PageSet, forward: (pages: PageSet) => Promise<void>) {
    this.#arrivals = arrivals;
    this.#forward = forward;
  }

  /** Until `stop`. @throws what forwarding throws */
  async run(): Promise<void> {
    while (!this.#stopped) {
      await this.caughtUp();
      await sleep(LOOK_MS, undefined, { ref: false });
    }
  }

  /** Resolves when the hypervisor has all that has arrived before the call. */
  caughtUp(): Promise<void> {
    this.#last = this.#last.then(async () => {
      const pages = this.#stopped ? undefined : this.#arrivals.takeAll();
      if (pages) await this.#forward(pages);
    });
    return this.#last;
  }

  stop(): void {
    this.#stopped = true;
  }
}
