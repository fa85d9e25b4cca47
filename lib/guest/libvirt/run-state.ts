import { GodwitError } from '../../errors.ts';
import type { RunState } from '../run-state.ts';
import type { LibvirtClient } from './rpc/client.ts';
import { type DomainRef, ERROR } from './rpc/procedures.ts';
import { CallRefused } from './rpc/session.ts';

/** virDomainState. */
const STATES: Readonly<Record<number, RunState>> = {
  1: 'running',
  2: 'running', // blocked: as far as QEMU is concerned, it runs
  4: 'shut-down', // QEMU is about to end
  6: 'panicked', // and its QEMU is kept (on_crash preserve)
  7: 'asleep',
};
const PAUSED = 3;
const SHUT_OFF = 5;

/**
 * virDomainPausedReason: what is not here was told to pause. A guest that migrates is stopped by its
 * migration, and one that has not arrived waits; which of them it is, is known by who asks.
 */
const PAUSED_STATES: Readonly<Record<number, RunState>> = {
  2: 'migrated',
  5: 'io-error',
  6: 'watchdog',
  8: 'shut-down',
  10: 'panicked',
  12: 'internal-error', // postcopy: the guest is somewhere else
  13: 'internal-error', // and its memory is in two places
  14: 'internal-error',
};

/** Undefined for a domain that does not run. @throws GodwitError hypervisor-failed */
export function runStateOf(state: number, reason: number): RunState | undefined {
  if (state === SHUT_OFF) return undefined;
  if (state === PAUSED) return PAUSED_STATES[reason] ?? 'paused';
  const known = STATES[state];
  if (known !== undefined) return known;
  const text = `libvirt says that the guest's state is ${state}, which this agent does not know`;
  throw new GodwitError('hypervisor-failed', text);
}

/** What it does; undefined when libvirt has no such domain, or it does not run. */
export async function lookAtDomain(
  client: LibvirtClient,
  domain: DomainRef,
): Promise<RunState | undefined> {
  const seen = await unlessNone(client.state(domain));
  return seen && runStateOf(seen.state, seen.reason);
}

/** Undefined when there is no such domain. */
export async function unlessNone<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof CallRefused && error.number === ERROR.noDomain) return undefined;
    throw error;
  }
}

/** virDomainEventType and its details, as far as they stop a guest. */
const LIFECYCLE = { stopped: 5, suspended: 3, resumed: 4, shutDown: 6, asleep: 7, crashed: 8 };
const SUSPENDED_STATES: Readonly<Record<number, RunState>> = {
  2: 'io-error',
  3: 'watchdog',
  6: 'internal-error',
};

/** What an event of a guest's life means. */
export type Happening =
  | { readonly what: 'stopped'; readonly reason: RunState | undefined }
  | { readonly what: 'resumed' }
  | { readonly what: 'gone' }
  | undefined;

/** A reason of its own for which the guest stopped is told with it; undefined: somebody told it to. */
export function happeningOf(event: number, detail: number): Happening {
  switch (event) {
    case LIFECYCLE.suspended:
      return { what: 'stopped', reason: SUSPENDED_STATES[detail] };
    case LIFECYCLE.asleep:
      return { what: 'stopped', reason: 'asleep' };
    case LIFECYCLE.crashed:
      return { what: 'stopped', reason: 'panicked' };
    case LIFECYCLE.resumed:
      return { what: 'resumed' };
    case LIFECYCLE.stopped:
      return { what: 'gone' };
    default:
      return undefined;
  }
}
