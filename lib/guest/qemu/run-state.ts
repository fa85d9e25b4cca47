import { GodwitError } from '../../errors.ts';
import type { RunState } from '../run-state.ts';

/**
 * RunState of QEMU's qapi/run-state.json. A guest that is being saved, loaded, or is at a checkpoint
 * of COLO stands because somebody told it to.
 */
const RUN_STATES: Readonly<Record<string, RunState>> = {
  running: 'running',
  paused: 'paused',
  prelaunch: 'paused', // started with -S
  'save-vm': 'paused',
  'restore-vm': 'paused',
  colo: 'paused',
  'finish-migrate': 'migrated',
  postmigrate: 'migrated',
  inmigrate: 'incoming',
  'io-error': 'io-error',
  'guest-panicked': 'panicked',
  shutdown: 'shut-down',
  watchdog: 'watchdog',
  debug: 'debug',
  suspended: 'asleep',
  'internal-error': 'internal-error',
};

/** QEMU's word as a fact for the agents. @throws GodwitError hypervisor-failed for one that is not known */
export function runStateOf(status: string): RunState {
  const state = Object.hasOwn(RUN_STATES, status) ? RUN_STATES[status] : undefined;
  if (state !== undefined) return state;
  const text = `QEMU says that the guest is "${status}", which this agent does not know`;
  throw new GodwitError('hypervisor-failed', text);
}
