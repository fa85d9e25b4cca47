import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import { WorkerLink } from '../../pages/worker-link.ts';
import type { QemuState } from './device-model.ts';

export interface EgressData {
  /** Where QEMU waits for its migration stream. */
  readonly socket: string;
  readonly prologue: Uint8Array;
  /** Number of the RAM's section in the prologue. */
  readonly sectionId: number;
  /** The regions that QEMU gets in the stream; a region's name is that of its RAM block. */
  readonly staged: readonly RegionFile[];
}

/** A PageSet for another thread. */
export interface SentPages {
  readonly pfnEnd: number;
  readonly buffer: SharedArrayBuffer;
}

export type EgressRequests = {
  open: { argument: undefined; answer: undefined };
  round: { argument: SentPages; answer: undefined };
  finish: { argument: { beforeEnd: Uint8Array; tail: Uint8Array }; answer: number };
};

/**
 * The migration stream to a destination QEMU, written by a worker thread. What is asked of it is
 * done in order; when QEMU closes the stream, all of it and what is asked later is rejected.
 */
export class Egress {
  readonly #link: WorkerLink<EgressRequests>;
  #last: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(data: EgressData, onFailure: (error: GodwitError) => void) {
    const entry = new URL('./egress-worker.ts', import.meta.url);
    this.#link = new WorkerLink(entry, data, onFailure);
  }

  /** Sends the prologue; resolves when QEMU has answered that it takes it. */
  open(): Promise<void> {
    return this.#inOrder(() => this.#link.request('open', undefined));
  }

  /** Sends the staged pages of the set, as they are when they are read; resolves when they are sent. */
  round({ pfnEnd, bytes }: PageSet): Promise<void> {
    const buffer = new SharedArrayBuffer(bytes.length);
    new Uint8Array(buffer).set(bytes); // the caller goes on with its set
    return this.#inOrder(() => this.#link.request('round', { pfnEnd, buffer }));
  }

  /** Sends what follows the last page. @returns QEMU's last word: 0 when it has loaded everything */
  finish({ beforeEnd, tail }: QemuState): Promise<number> {
    return this.#inOrder(() => this.#link.request('finish', { beforeEnd, tail }));
  }

  /** Ends the thread and closes the stream; what was asked and is not done is rejected. */
  stop(): Promise<void> {
    this.#stopped = true;
    return this.#link.stop();
  }

  #inOrder<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#last.then(() => {
      if (!this.#stopped) return step();
      throw new GodwitError('cancelled', 'the stream to QEMU was given up');
    });
    this.#last = done.catch(() => {});
    return done;
  }
}
