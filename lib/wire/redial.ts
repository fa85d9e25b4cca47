import { setTimeout as sleep } from 'node:timers/promises';
import { asGodwitError, type GodwitError } from '../errors.ts';
import type { Link } from './link.ts';

/** Pauses between two attempts, ms: the first, and where they stop growing. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

/** What a peer says that may be otherwise in a moment; anything else that it says is final. */
const PASSING: ReadonlySet<string> = new Set(['peer-silent', 'too-many']);

/**
 * Tries to get a lost link its connection back: at once, unless the last ones brought nothing, then
 * after growing pauses, until the link has ended, which limits the time. Never rejects.
 * @param attempt one attempt, which joins the link
 */
export async function redial(link: Link, attempt: () => Promise<void>): Promise<void> {
  for (let tries = link.flaps; link.state === 'lost'; tries++) {
    if (tries > 0) await sleep(pauseMs(tries));
    if (link.state !== 'lost') return;
    try {
      await attempt();
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (isFinal(error)) link.giveUp(error);
      else link.failedAttempt(error);
    }
  }
}

function pauseMs(tries: number): number {
  const pause = Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS);
  return pause * (0.75 + Math.random() / 2);
}

function isFinal({ code, fromPeer }: GodwitError): boolean {
  return code === 'internal' || (fromPeer && !PASSING.has(code));
}
