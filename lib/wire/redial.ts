import { setTimeout as sleep } from 'node:timers/promises';
import { asGodwitError, GodwitError } from '../errors.ts';

/** Pauses between two attempts, ms: the first, and where they stop growing. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

export interface RedialOptions {
  /** Why there is no connection any more. */
  readonly lost: GodwitError;
  /** How long it is tried, ms. */
  readonly timeoutMs: number;
  /** One attempt; resolves when the link goes on. */
  readonly attempt: () => Promise<void>;
  /** Ends it: whoever waits for the connection has gone. */
  readonly signal: AbortSignal;
}

/**
 * Tries to get a lost connection back: at once, then after growing pauses.
 * @throws GodwitError reconnect-timeout when the time is up, or the peer's own word that it is over
 */
export async function redial({ lost, timeoutMs, attempt, signal }: RedialOptions): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let last = lost;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    if (signal.aborted) return;
    try {
      return await attempt();
    } catch (thrown) {
      last = asGodwitError(thrown);
      if (last.fromPeer) throw last;
    }
    const left = deadline - performance.now();
    if (left <= 0) throw gaveUp(lost, last, timeoutMs);
    await sleep(Math.min(left, pause * (0.75 + Math.random() / 2)), undefined, { signal }).catch(
      () => {},
    );
  }
}

function gaveUp(lost: GodwitError, last: GodwitError, timeoutMs: number): GodwitError {
  const tried = last === lost ? '' : `; the last attempt: ${last.message}`;
  return new GodwitError(
    'reconnect-timeout',
    `the connection was lost (${lost.message}) and did not come back within ${timeoutMs} ms${tried}`,
    { cause: last },
  );
}
