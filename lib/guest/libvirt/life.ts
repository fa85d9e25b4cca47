import type { RunState } from '../run-state.ts';
import type { LibvirtClient } from './rpc/client.ts';
import type { DomainEvent, DomainRef } from './rpc/procedures.ts';
import { happeningOf } from './run-state.ts';

/** Follows by libvirt's events when the guest stops and why, from now on. */
export class Life {
  #reason: RunState | undefined;
  #stopped = false;
  #stoppedAtMs = 0;
  #onStop: (() => void) | undefined;
  #onResume: (() => void) | undefined;
  #onGone: (() => void) | undefined;

  constructor(client: LibvirtClient, { uuid }: DomainRef) {
    client.onEvent((event) => {
      if (event.type === 'lifecycle' && event.domain.uuid.equals(uuid)) this.#hear(event);
    });
  }

  /** It has stopped and was not resumed since. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** How long ago libvirt has told that it stopped, ms. */
  get agoMs(): number {
    return performance.now() - this.#stoppedAtMs;
  }

  /** The reason of its own for which it has stopped; undefined when somebody has told it to. */
  get reason(): RunState | undefined {
    return this.#stopped ? this.#reason : undefined;
  }

  /** It was found standing, and has not run since. */
  stands(): void {
    this.#stopped = true;
  }

  listen(on: { stop: () => void; resume: () => void; gone: () => void }): void {
    this.#onStop = on.stop;
    this.#onResume = on.resume;
    this.#onGone = on.gone;
  }

  #hear({ event, detail }: Extract<DomainEvent, { type: 'lifecycle' }>): void {
    const happening = happeningOf(event, detail);
    if (happening?.what === 'stopped') {
      this.#reason ??= happening.reason;
      if (!this.#stopped) this.#stoppedAtMs = performance.now();
      this.#stopped = true;
      this.#onStop?.();
    } else if (happening?.what === 'resumed') {
      this.#reason = undefined;
      this.#stopped = false;
      this.#onResume?.();
    } else if (happening?.what === 'gone') this.#onGone?.();
  }
}
