import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import { RUN_STATE_WORDS, type RunState } from '../run-state.ts';

/** QEMU stops the guest within its next look at the clock: 50 ms, and one pass over the dirty log. */
export const STOP_LIMIT_MS = 10_000;
/** How long a cutover that QEMU has begun by itself may wait to be taken up: the guest stands. */
export const TAKE_UP_LIMIT_MS = 5_000;

/** QEMU was told to stop the guest, and what stopped it was something else. */
export function stoppedBefore(name: string, state: RunState): GodwitError {
  const text = `guest ${name} ${RUN_STATE_WORDS[state]}: it had stopped a moment before the migration stopped it`;
  return new GodwitError('guest-stopped', text);
}

/** QEMU was not told to stop it, and nobody went on from there. */
export function notTakenUp(): GodwitError {
  const text = `QEMU has stopped the guest for the migration by itself, and that was not taken up within ${formatDuration(TAKE_UP_LIMIT_MS)}`;
  return new GodwitError('hypervisor-failed', text);
}
