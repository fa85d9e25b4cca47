import { GodwitError } from '../errors.ts';
import type { GuestCopy } from '../guest/guest.ts';
import { RUN_STATE_WORDS, type RunState, stoppedByItself } from '../guest/run-state.ts';
import type { DestinationStateName } from './destination-machine.ts';
import type { SourceStateName } from './source-machine.ts';

/** A copy of the guest on this host, as far as anything is known: here, or proved gone. */
export type Copy = Pick<GuestCopy, 'state' | 'suspend' | 'resume' | 'destroy'> | 'gone';

/** How a copy stands once an obligation holds. */
export type Standing = RunState | 'gone';

/** What is known about this copy besides what its hypervisor says. */
export interface Known {
  /** What the guest did before an agent stopped it, and is to do again; undefined: none has. */
  readonly runState: RunState | undefined;
  /** Whether it has run here; undefined when it was told to and nobody has seen it. */
  readonly hasRun: boolean | undefined;
}

/**
 * What a durable state demands of the copy here. It is established before anything is said in that
 * state, as often as it takes; establishing what holds already changes nothing.
 */
export interface Obligation {
  /** For whoever waits for it: "waits for …". */
  readonly words: string;
  /** What the fault point of the act is called. */
  readonly act: 'resume-guest' | 'suspend-guest' | 'release-guest' | 'discard-guest';
  /**
   * Looks first and does only what is missing.
   * @throws GodwitError why it does not hold; not-started when the guest has provably executed
   *   nothing here and does not start; outcome-unknown when only a person can tell
   */
  readonly establish: (copy: Copy, known: Known) => Promise<Standing>;
  /** After this an attempt counts as failed, ms; what it still does is done before the next one is. */
  readonly limitMs: number;
}

/** A hypervisor answers in milliseconds; its main loop may stand still for seconds under load. */
const RUN_LIMIT_MS = 15_000;
/** The kernel may have hundreds of GiB to free. */
const GONE_LIMIT_MS = 45_000;

const RUNS_AT_SOURCE: Obligation = {
  words: 'the guest to run on here',
  act: 'resume-guest',
  limitMs: RUN_LIMIT_MS,
  async establish(copy, { runState }) {
    if (copy === 'gone') return copy; // its hypervisor died: nothing can run on, and it is said
    const state = await copy.state();
    return runState === 'running' && mayResume(state) ? ran(await copy.resume()) : state;
  },
};

const RUNS_AT_DESTINATION: Obligation = {
  words: 'the guest to run here',
  act: 'resume-guest',
  limitMs: RUN_LIMIT_MS,
  async establish(copy, { runState, hasRun }) {
    if (copy === 'gone') {
      if (hasRun) return copy; // and has ended
      throw hasRun === false ? diedBefore() : nobodyKnows();
    }
    const state = await copy.state();
    if (state === 'incoming')
      throw new GodwitError('hypervisor-failed', 'the copy here has never got its device state');
    if (state === 'paused' && runState === 'paused') return state; // it arrives as it left
    return mayResume(state) ? ran(await copy.resume()) : state;
  },
};

const STOPPED: Obligation = {
  words: 'the copy here to be stopped',
  act: 'suspend-guest',
  limitMs: RUN_LIMIT_MS,
  async establish(copy) {
    if (copy === 'gone') return copy;
    const state = await copy.state();
    if (state !== 'running') return state;
    const stopped = await copy.suspend();
    if (stopped !== 'running') return stopped;
    throw new GodwitError('hypervisor-failed', 'the copy here was told to stop and runs');
  },
};

const RELEASED: Obligation = {
  words: 'the copy here to be gone',
  act: 'release-guest',
  limitMs: GONE_LIMIT_MS,
  async establish(copy) {
    if (copy !== 'gone') await copy.destroy();
    return 'gone';
  },
};

const DISCARDED: Obligation = { ...RELEASED, act: 'discard-guest' };

export const SOURCE_OBLIGATIONS: { readonly [S in SourceStateName]?: Obligation } = {
  aborted: RUNS_AT_SOURCE,
  released: RELEASED,
  superseded: STOPPED,
};

export const DESTINATION_OBLIGATIONS: { readonly [S in DestinationStateName]?: Obligation } = {
  running: RUNS_AT_DESTINATION,
  refused: DISCARDED,
  discarded: DISCARDED,
  superseded: STOPPED,
};

/** How a copy stands, for people; undefined when there is nothing to say about it. */
export function standingWords(standing: Standing | undefined): string | undefined {
  if (standing === undefined || standing === 'running') return undefined;
  return standing === 'gone' ? 'is gone from this host' : RUN_STATE_WORDS[standing];
}

/** Stopped by an agent, as far as that can be seen; what stands for a reason of its own does not count. */
function mayResume(state: RunState): boolean {
  return state === 'paused' || state === 'migrated';
}

/** Once it was told to, it has run, whatever it did then; paused: somebody else wants it so. */
function ran(state: RunState): RunState {
  if (state === 'running' || state === 'paused' || stoppedByItself(state)) return state;
  throw new GodwitError('hypervisor-failed', `the guest was told to run and is ${state}`);
}

function diedBefore(): GodwitError {
  const text = 'the guest is gone from this host, and has never run here';
  return new GodwitError('not-started', text);
}

function nobodyKnows(): GodwitError {
  const text =
    'the guest is gone from this host, and nobody can tell whether it has run here: a person decides (resolve)';
  return new GodwitError('outcome-unknown', text);
}
