import { changeLimits, type LimitsChange, type PolicyName } from './limits.ts';
import type { PolicyLimits } from './stats.ts';

/** The operator's hand on a running migration: limits that change in flight, and the cutover. */
export class Steering {
  readonly policy: PolicyName;
  #limits: PolicyLimits;
  #cutoverRequested = false;
  #changes = 0;
  readonly #listeners = new Set<() => void>();

  constructor(policy: PolicyName, limits: PolicyLimits) {
    this.policy = policy;
    this.#limits = limits;
  }

  get limits(): PolicyLimits {
    return this.#limits;
  }

  get cutoverRequested(): boolean {
    return this.#cutoverRequested;
  }

  /** Grows with every change, so that a reader can tell whether it has seen the last one. */
  get changes(): number {
    return this.#changes;
  }

  /** @throws GodwitError bad-option; nothing changes then */
  change(change: LimitsChange): void {
    this.#limits = changeLimits(this.policy, this.#limits, change);
    this.#announce();
  }

  /** Stop-and-copy now, as the policy understands it. */
  cutover(): void {
    this.#cutoverRequested = true;
    this.#announce();
  }

  /** Calls back after each change until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #announce(): void {
    this.#changes++;
    for (const listener of this.#listeners) listener();
  }
}
