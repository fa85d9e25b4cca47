import { GodwitError } from '../errors.ts';
import type { Copy, Known, Obligation, Standing } from './obligations.ts';

export interface AttemptHooks {
  /** The copy here. @throws GodwitError not-seen */
  readonly copy: () => Promise<Copy>;
  readonly known: () => Known;
  /** Calls back after that time, ms; returns the way out. */
  readonly after: (ms: number, callback: () => void) => () => void;
}

/**
 * Attempts to establish obligations, one at a time. Once one is late or called off, nothing that it
 * still does reaches the copy: what is demanded of it may be another thing by then.
 */
export class Attempts {
  readonly #hooks: AttemptHooks;
  #current = 0;

  constructor(hooks: AttemptHooks) {
    this.#hooks = hooks;
  }

  /** @throws GodwitError not-seen when it takes too long, and why it does not hold */
  async attempt(obligation: Obligation): Promise<Standing> {
    const attempt = ++this.#current;
    const check = () => {
      if (this.#current !== attempt) throw late(obligation);
    };
    const { promise, reject } = Promise.withResolvers<never>();
    const callOff = this.#hooks.after(obligation.limitMs, () => reject(late(obligation)));
    const work = this.#work(obligation, check);
    work.catch(() => {}); // it may fail when nobody listens any more
    try {
      return await Promise.race([work, promise]);
    } finally {
      callOff();
      this.#current++;
    }
  }

  callOff(): void {
    this.#current++;
  }

  async #work(obligation: Obligation, check: () => void): Promise<Standing> {
    const copy = await this.#hooks.copy();
    check();
    const mine = copy === 'gone' ? copy : guarded(copy, check);
    return obligation.establish(mine, this.#hooks.known());
  }
}

/** A copy that answers for as long as its attempt counts. */
function guarded(copy: Exclude<Copy, 'gone'>, check: () => void): Exclude<Copy, 'gone'> {
  const act =
    <T>(what: () => Promise<T>) =>
    async () => {
      check();
      return what();
    };
  return {
    state: act(() => copy.state()),
    suspend: act(() => copy.suspend()),
    resume: act(() => copy.resume()),
    destroy: act(() => copy.destroy()),
  };
}

function late({ limitMs }: Obligation): GodwitError {
  const text = `the hypervisor has not answered within ${limitMs / 1000} s`;
  return new GodwitError('not-seen', text);
}
