import { asGodwitError, GodwitError } from '../../errors.ts';
import type { SourceHandover } from '../../ownership/source-handover.ts';
import type { SourceContext } from './basis.ts';

/** How a migration ends, whoever ends it: the first reason counts, what fails after it fails because of it. */
export class Ending {
  readonly #handover: SourceHandover;
  readonly #log: SourceContext['log'];
  readonly #cancel = new AbortController();
  readonly #moved = Promise.withResolvers<void>();
  /** Rejects when the handover has ended without the guest having moved. */
  readonly #stayed = Promise.withResolvers<never>();
  #reason: GodwitError | undefined;

  constructor(handover: SourceHandover, log: SourceContext['log']) {
    this.#handover = handover;
    this.#log = log;
    this.#stayed.promise.catch(() => {});
  }

  /** True until the guest was given away. */
  get cancellable(): boolean {
    const { name } = this.#handover.state;
    return name === 'precopy' || name === 'suspended';
  }

  /** Aborts when no more pages are wanted. */
  get signal(): AbortSignal {
    return this.#cancel.signal;
  }

  /** Resolves when the guest runs at the destination and its copy here is gone. */
  get moved(): Promise<void> {
    return this.#moved.promise;
  }

  /** The handover knows how the migration went. */
  report(moved: boolean, error: GodwitError | undefined): void {
    if (moved) this.#moved.resolve();
    else this.#stayed.reject(error);
  }

  /** Ends the migration from outside its phases, unless the guest was given away. */
  abort(error: GodwitError): void {
    this.because(error);
    this.stop();
    this.#handover
      .dispatch({ type: 'abort', error })
      .catch((thrown) => this.#log('error', asGodwitError(thrown).message));
  }

  /** A reason to end before commit. */
  because(error: GodwitError): void {
    if (this.cancellable) this.#reason ??= error;
  }

  /** Why the migration ends, when a phase has thrown that. */
  reason(thrown: unknown): GodwitError {
    return this.#reason ?? asGodwitError(thrown);
  }

  /** A phase's result, unless the handover ends first. */
  or<T>(work: Promise<T>): Promise<T> {
    return Promise.race([this.#stayed.promise, work]);
  }

  /** No more pages are sent. */
  stop(): void {
    this.#cancel.abort();
  }
}

/** The agent stops while only the destination knows. */
export function leftToJournal(): GodwitError {
  const text = 'agent-send stopped before the destination said whether it runs the guest';
  return new GodwitError('shutting-down', text);
}
