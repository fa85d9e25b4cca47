import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Looks again and again until there is something to see, for what nobody announces (a process that
 * ends, a state of a hypervisor). Counts by the monotonic clock.
 * @returns what was seen, undefined when the time is up
 */
export async function poll<T>(
  limitMs: number,
  everyMs: number,
  look: () => T | undefined | Promise<T | undefined>,
): Promise<T | undefined> {
  for (const deadline = performance.now() + limitMs; ; await sleep(everyMs)) {
    const seen = await look();
    if (seen !== undefined || performance.now() >= deadline) return seen;
  }
}

/**
 * The work, unless it takes too long; what it still does is no longer waited for.
 * @throws what `late` makes when the time is up
 */
export async function within<T>(limitMs: number, work: Promise<T>, late: () => Error): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), limitMs);
  timer.unref(); // nobody may wait any more: it does not keep a process from ending
  work.catch(() => {}); // it may fail when nobody listens any more
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
