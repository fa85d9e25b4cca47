import { inspect } from 'node:util';
import { EXIT } from '../exit.ts';
import { log } from '../log.ts';

/** A daemon that has met a fault of its own ends in order, if it can in this time, ms. */
const END_MS = 20_000;

/**
 * Lets work go on that nobody waits for. Its failure is logged, about `name`, and concerns nothing
 * else. Resolves when it is over; never rejects.
 */
export async function inBackground(name: string, work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (thrown) {
    log('error', `failed in the background: ${inspect(thrown)}`, name);
  }
}

/**
 * From now on no failure reaches Node's own handler, which would end the daemon where it stands. A
 * rejection that nobody handles belongs to one piece of work: it is logged, and everything else goes
 * on. After an exception that nobody caught nothing here can be relied on.
 * @returns resolves at the first such exception: the daemon then ends, and its next run finishes
 *   what the journal has open; one that does not manage to end is ended
 */
export function handleFaults(): Promise<undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  process.on('unhandledRejection', (reason) => {
    log('error', `failed, and nobody handled it: ${inspect(reason)}`);
  });
  process.on('uncaughtException', (thrown) => {
    log('error', `a fault of the agent, which ends: ${inspect(thrown)}`);
    setTimeout(() => process.exit(EXIT.internal), END_MS);
    resolve(undefined);
  });
  return promise;
}
