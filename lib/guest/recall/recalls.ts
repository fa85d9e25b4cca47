import { Crew } from '../../crew/crew.ts';
import type { Recalled, RecallPlace, RecallRequests } from './recall-protocol.ts';
import type { Turn } from './turn.ts';

const TASK = new URL('recall-task.ts', import.meta.url);

/** A way on which one suspended guest can be recalled. */
export interface Recall {
  /**
   * Recalls the guest after that time from now, ms, if it is the recall's turn then. Resolves when that
   * is known, or when the way is closed. @throws GodwitError when the thread has ended
   */
  arm(ms: number, turn: Turn): Promise<Recalled>;
  close(): void;
}

/** The recall thread of an agent, which all its migrations share: a crew of one. */
export class Recalls {
  readonly #crew = new Crew(1, [TASK]);

  started(): Promise<void> {
    return this.#crew.started();
  }

  /** Opens a way of its own to the guest's hypervisor. @throws GodwitError hypervisor-failed, not-seen */
  async open(place: RecallPlace): Promise<Recall> {
    const task = this.#crew.begin<RecallRequests>(TASK, place, () => {}); // who waits hears of it
    let armed: Promise<unknown> = Promise.resolve();
    const close = () =>
      void Promise.allSettled([task.request('callOff', undefined), armed]).then(() => task.stop());
    try {
      await task.request('open', undefined);
    } catch (error) {
      close();
      throw error;
    }
    return {
      arm: (ms, turn) => {
        const atNs = process.hrtime.bigint() + BigInt(Math.round(ms * 1e6));
        const recalled = task.request('arm', { atNs, turn: turn.shared });
        armed = recalled;
        return recalled;
      },
      close,
    };
  }

  stop(): Promise<void> {
    return this.#crew.stop();
  }
}
