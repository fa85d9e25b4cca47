import { changeLimits, type LimitsChange, type PolicyName } from './limits.ts';
import type { PolicyLimits } from './stats.ts';

/** The operator's hand on a running migration: limits that change in flight, and the cutover. */
export class Steering {
  readonly policy: PolicyName;
  #limits: PolicyLimits;
  #cutover: 'safe' | 'forced' | undefined;
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
    return this.#cutover !== undefined;
  }

  /** The order is to be followed whatever the forecast. */
  get cutoverForced(): boolean {
    return this.#cutover === 'forced';
  }

  /** Grows with every change, so that a reader can tell whether it has seen the last one. */
  get changes(): number {
    return this.#changes;
  }

  /** A hold takes an order back that still waits. @throws GodwitError bad-option; nothing changes then */
  change(change: LimitsChange): void {
    this.#limits = changeLimits(this.policy, this.#limits, change);
    if (change.hold) this.lapse();
    this.#announce();
  }

  /** Stop-and-copy as soon as the forecast allows it, or with `force` now. */
  cutover(force = false): void {
    this.#cutover = force ? 'forced' : (this.#cutover ?? 'safe');
    this.#announce();
  }

  /** The order could not be followed and does not stand any more. */
  lapse(): void {
    this.#cutover = undefined;
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
