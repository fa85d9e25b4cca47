import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';

/** Long enough for a share to mean something, short against the time in which anybody decides by it. */
const WINDOW_MS = 50;
/** Of the calling thread: ns on a processor, ns in which it waited for one, and more (sched-stats). */
const SCHEDULED = '/proc/thread-self/schedstat';

/**
 * How much of its time this thread has had work, as its event loop counts it, or as the kernel does where that is
 * more: a thread that waits for a processor has work, and to its event loop looks as if it waited for input.
 */
export class Load {
  #sinceMs = performance.now();
  #at = performance.eventLoopUtilization();
  #scheduledMs = scheduledMs();
  #share = 0;

  /** From 0 to 1, over the last window that has ended. */
  get share(): number {
    const nowMs = performance.now();
    const windowMs = nowMs - this.#sinceMs;
    if (windowMs >= WINDOW_MS) {
      const now = performance.eventLoopUtilization();
      const scheduled = scheduledMs();
      const looped = performance.eventLoopUtilization(now, this.#at).utilization;
      this.#share = Math.min(1, Math.max(looped, (scheduled - this.#scheduledMs) / windowMs));
      this.#at = now;
      this.#scheduledMs = scheduled;
      this.#sinceMs = nowMs;
    }
    return this.#share;
  }
}

/** Time in which this thread had a processor or waited for one; 0 where the kernel does not tell. */
function scheduledMs(): number {
  try {
    const [ran, waited] = readFileSync(SCHEDULED, 'latin1').split(' ').map(Number);
    return (ran! + waited!) / 1e6;
  } catch {
    return 0;
  }
}

/** Of this thread. */
export const load = new Load();
