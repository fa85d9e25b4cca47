import type { RunState } from '../run-state.ts';
import type { QmpClient, QmpEvent } from './qmp.ts';

/** What QEMU says just before it stops a guest for a reason of the guest's own. */
const REASONS: Readonly<Record<string, (event: QmpEvent) => RunState | undefined>> = {
  BLOCK_IO_ERROR: ({ data }) => (data?.action === 'stop' ? 'io-error' : undefined),
  GUEST_PANICKED: ({ data }) => (data?.action === 'pause' ? 'panicked' : undefined),
  WATCHDOG: ({ data }) => (data?.action === 'pause' ? 'watchdog' : undefined),
  SHUTDOWN: () => 'shut-down', // under -no-shutdown; without it QEMU ends
};

/**
 * Follows by QEMU's events when a guest stops and why, from now on. The reason comes before STOP and
 * is kept: QEMU answers no question while it sends the last pages of a guest that it has stopped for
 * a migration.
 */
export class Stops {
  #told: RunState | undefined;
  #stopped = false;
  /** On the real-time clock of the host, as QEMU says it, ms. */
  #stoppedAt = 0;
  #listener: (() => void) | undefined;

  constructor(qmp: QmpClient) {
    for (const [event, reasonOf] of Object.entries(REASONS))
      qmp.on(event, (happened) => {
        this.#told = reasonOf(happened) ?? this.#told;
      });
    qmp.on('STOP', (event) => this.#stop(event));
    qmp.on('SUSPEND', (event) => {
      this.#told = 'asleep'; // to RAM: no STOP follows
      this.#stop(event);
    });
    for (const event of ['RESUME', 'WAKEUP'])
      qmp.on(event, () => {
        this.#told = undefined;
        this.#stopped = false;
      });
  }

  /** It has stopped and was not resumed since. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** How long ago it stopped, ms; this agent may have had other things to do when it was told. */
  get agoMs(): number {
    return Math.max(0, Date.now() - this.#stoppedAt);
  }

  /** The reason of its own for which it has stopped; undefined when somebody has told it to. */
  get reason(): RunState | undefined {
    return this.#stopped ? this.#told : undefined;
  }

  /** It was found standing, and has not run since. */
  stands(): void {
    this.#stopped = true;
  }

  /** Calls the listener when the guest stops. */
  onStop(listener: () => void): void {
    this.#listener = listener;
  }

  #stop({ timestamp }: QmpEvent): void {
    this.#stoppedAt = timestamp.seconds * 1000 + timestamp.microseconds / 1000;
    this.#stopped = true;
    this.#listener?.();
  }
}
