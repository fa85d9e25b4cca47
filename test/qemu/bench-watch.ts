import type { QmpClient, QmpEvent } from '../../lib/guest/qemu/qmp.ts';

/** What the two QEMUs of a migration say of the suspension, on monitors that the agents do not use. */
export class SuspensionWatch {
  #stoppedMs: number | undefined;
  #resumedMs: number | undefined;
  #downtimeMs: number | undefined;

  constructor(source: QmpClient) {
    source.on('STOP', (event) => {
      this.#stoppedMs = timeOf(event);
    });
    source.on('MIGRATION', async ({ data }) => {
      if (data?.status !== 'completed') return;
      // Under Godwit it lives until the destination runs the guest: a moment, and that may be over.
      const answer = source.execute<{ downtime?: number }>('query-migrate').catch(() => undefined);
      this.#downtimeMs = (await answer)?.downtime;
    });
  }

  /** To be called before the guest is resumed there. */
  watchDestination(destination: QmpClient): void {
    destination.on('RESUME', (event) => {
      this.#resumedMs = timeOf(event);
    });
  }

  /** From STOP at the source to RESUME at the destination; undefined until both were heard. */
  get eventsMs(): number | undefined {
    if (this.#stoppedMs === undefined || this.#resumedMs === undefined) return undefined;
    return this.#resumedMs - this.#stoppedMs;
  }

  /** As the source's `query-migrate` counts it; undefined when it was gone before it could be asked. */
  get downtimeMs(): number | undefined {
    return this.#downtimeMs;
  }
}

/** By the host's clock, in ms. */
function timeOf({ timestamp: { seconds, microseconds } }: QmpEvent): number {
  return seconds * 1000 + microseconds / 1000;
}
