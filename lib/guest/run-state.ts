import { GodwitError } from '../errors.ts';

/**
 * What a copy of a guest does, as its hypervisor says: a fact, never a guess.
 *
 * - running: it executes.
 * - paused: it was told to stop, by an agent or by somebody else; only who told it can know.
 * - migrated: a migration of ours has stopped it (QEMU: finish-migrate, postmigrate).
 * - incoming: it waits for its memory and has never run here.
 * - io-error, panicked, shut-down, watchdog, debug, asleep, internal-error: it stopped for a reason of
 *   its own.
 */
export type RunState =
  | 'running'
  | 'paused'
  | 'migrated'
  | 'incoming'
  | 'io-error'
  | 'panicked'
  | 'shut-down'
  | 'watchdog'
  | 'debug'
  | 'asleep'
  | 'internal-error';

/** A state for people, as it follows "the guest". */
export const RUN_STATE_WORDS: Readonly<Record<RunState, string>> = {
  running: 'runs',
  paused: 'is paused',
  migrated: 'is stopped by a migration',
  incoming: 'waits for its memory',
  'io-error': 'is stopped by an I/O error',
  panicked: 'has panicked',
  'shut-down': 'has shut itself down',
  watchdog: 'is stopped by its watchdog',
  debug: 'is stopped by a debugger',
  asleep: 'sleeps (suspended to RAM)',
  'internal-error': 'is stopped by an error of its hypervisor',
};

/** It has executed and stands for a reason of its own: no agent stopped it, and none may resume it. */
export function stoppedByItself(state: RunState): boolean {
  return !['running', 'paused', 'migrated', 'incoming'].includes(state);
}

/**
 * A guest can be moved while it runs, or while somebody has paused it: then it arrives so.
 * @throws GodwitError guest-not-running, naming the state
 */
export function movable(guest: string, state: RunState): 'running' | 'paused' {
  if (state === 'running' || state === 'paused') return state;
  const text = `guest ${guest} ${RUN_STATE_WORDS[state]}; only a guest that runs or is paused can be moved`;
  throw new GodwitError('guest-not-running', text);
}
