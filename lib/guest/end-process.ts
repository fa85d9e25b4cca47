import { GodwitError } from '../errors.ts';
import { poll } from '../poll.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';

/** A hypervisor quits in milliseconds; a machine under load gets more before it is killed. */
const QUIT_LIMIT_MS = 5_000;
/** The kernel may have hundreds of GiB to free. */
const KILL_LIMIT_MS = 30_000;
const POLL_MS = 10;

/**
 * Ends a process and waits until it is gone: by asking it if it can be asked, else, or if that does
 * not help, by killing it, also where it stands still; never another one that has got the same pid.
 * @param quit asks it to; whether it did is seen by the process
 * @throws GodwitError hypervisor-failed when it will not end
 */
export async function endProcess(ending: ProcessIdentity, quit?: () => void): Promise<void> {
  quit?.();
  if (quit !== undefined && (await isGone(ending, QUIT_LIMIT_MS))) return;
  try {
    if (isAlive(ending)) process.kill(ending.pid, 'SIGKILL');
  } catch (cause) {
    const why = `cannot end process ${ending.pid}: ${(cause as Error).message}`;
    if (isAlive(ending)) throw new GodwitError('hypervisor-failed', why, { cause });
  }
  if (await isGone(ending, KILL_LIMIT_MS)) return;
  throw new GodwitError('hypervisor-failed', `process ${ending.pid} does not end`);
}

async function isGone(ending: ProcessIdentity, limitMs: number): Promise<boolean> {
  const gone = await poll(limitMs, POLL_MS, () => (isAlive(ending) ? undefined : true));
  return gone === true;
}
