import type { Crew, Task } from '../../crew/crew.ts';
import type { Running } from '../../crew/task.ts';
import { GodwitError } from '../../errors.ts';
import type { PageSet } from '../../memory/page-set.ts';
import type { SpoolShare } from '../../memory/state-spool.ts';

/** A PageSet for another thread. */
export interface SentPages {
  readonly pfnEnd: number;
  readonly buffer: SharedArrayBuffer;
}

type EgressRequests<Last> = {
  open: { argument: undefined; answer: undefined };
  round: { argument: SentPages; answer: undefined };
  finish: { argument: SpoolShare; answer: Last };
};

/** What writes a stream to a destination hypervisor, in its worker. */
export interface EgressTask<Last> {
  /** Sends what comes before the first page; resolves when the hypervisor has taken it. */
  open(): Promise<undefined>;
  /** Sends the staged pages of the set, as they are when they are read. */
  round(pages: SentPages): Promise<undefined>;
  /** Sends what follows the last page, as it grows. @returns the hypervisor's last word */
  finish(state: SpoolShare): Promise<Last>;
  close(): void;
}

/** As its module's `begin` answers. */
export function running<Last>(egress: EgressTask<Last>): Running<EgressRequests<Last>> {
  return {
    handlers: {
      open: () => egress.open(),
      round: (pages) => egress.round(pages),
      finish: (state) => egress.finish(state),
    },
    close: () => egress.close(),
  };
}

/**
 * The stream to a destination hypervisor, written by a task. What is asked of it is done in order; when
 * the hypervisor closes the stream, all of it and what is asked later is rejected.
 */
export class Egress<Last> {
  readonly #task: Task<EgressRequests<Last>>;
  #last: Promise<unknown> = Promise.resolve();
  #stopped = false;

  /** @param module of an `EgressTask`. @param data what its `begin` takes */
  constructor(crew: Crew, module: URL, data: unknown, onFailure: (error: GodwitError) => void) {
    this.#task = crew.begin(module, data, onFailure);
  }

  open(): Promise<void> {
    return this.#inOrder(() => this.#task.request('open', undefined));
  }

  round({ pfnEnd, bytes }: PageSet): Promise<void> {
    const buffer = new SharedArrayBuffer(bytes.length);
    new Uint8Array(buffer).set(bytes); // the caller goes on with its set
    return this.#inOrder(() => this.#task.request('round', { pfnEnd, buffer }));
  }

  finish(state: SpoolShare): Promise<Last> {
    return this.#inOrder(() => this.#task.request('finish', state));
  }

  /** Lets go of the stream; what was asked and is not done is rejected. */
  stop(): Promise<void> {
    this.#stopped = true;
    return this.#task.stop();
  }

  #inOrder<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#last.then(() => {
      if (!this.#stopped) return step();
      throw new GodwitError('cancelled', 'the stream to the hypervisor was given up');
    });
    this.#last = done.catch(() => {});
    return done;
  }
}
