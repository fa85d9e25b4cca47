import { GodwitError } from '../errors.ts';
import type { Machine } from './driver.ts';

/**
 * The source's half of the handover: who may run the guest, seen from the side that has it. Pure:
 * an event in, a state and effects out, effects in the order in which they must happen. Diagram and
 * the table of every pair are in proto/WIRE.md.
 *
 * - precopy: the guest runs here.
 * - suspended: it is suspended here, and any trouble resumes it.
 * - committed: the right to run it was given away; nothing here resumes it but the destination's
 *   own word that it never will, or a person's.
 * - released: the destination runs it; its copy here goes.
 * - aborted: it runs on here, and the destination may still have to be told.
 * - superseded: a person decided at the destination that it runs there; suspended here for good.
 * - ended: nothing is open.
 */
export const SOURCE_STATES = [
  'precopy',
  'suspended',
  'committed',
  'aborted',
  'released',
  'superseded',
  'ended',
] as const;
export type SourceStateName = (typeof SOURCE_STATES)[number];

export interface SourceState {
  readonly name: SourceStateName;
  readonly epoch: number;
}

export type SourceEvent =
  | { readonly type: 'suspend' }
  | { readonly type: 'prepared'; readonly epoch: number }
  /** Nothing but this agent resumes the copy. `late`: the deadline has passed: aborts with that. */
  | { readonly type: 'sealed'; readonly epoch: number; readonly late: GodwitError | undefined }
  /** Committed here, but the deadline passed before Commit was sent. */
  | { readonly type: 'withdraw'; readonly error: GodwitError }
  | { readonly type: 'running'; readonly epoch: number }
  | { readonly type: 'refused'; readonly epoch: number; readonly error: GodwitError }
  | { readonly type: 'closed'; readonly epoch: number }
  /** Deadline, cancel, policy, or a failure on this side. */
  | { readonly type: 'abort'; readonly error: GodwitError }
  /** The link to the destination is given up, by the peer's Abort or because it cannot be joined. */
  | { readonly type: 'lost'; readonly error: GodwitError }
  /** This agent was started again and has read this state from its journal. */
  | { readonly type: 'restart'; readonly error: GodwitError }
  /** The destination's answer to Recover. */
  | { readonly type: 'recovered'; readonly epoch: number; readonly state: string }
  /** The destination knows nothing of the migration. */
  | { readonly type: 'forgotten' }
  /** A person's decisions. */
  | { readonly type: 'keep-here'; readonly error: GodwitError }
  | { readonly type: 'give-up'; readonly error: GodwitError };

export type SourceEffect =
  /** Makes the state durable; nothing after it happens unless it is. */
  | {
      readonly type: 'journal';
      readonly state: SourceStateName;
      readonly epoch: number;
      readonly error: GodwitError | undefined;
    }
  | { readonly type: 'suspend-guest' }
  | { readonly type: 'resume-guest' }
  /** A hypervisor that would resume the guest when this agent dies does so no more. */
  | { readonly type: 'seal-guest'; readonly epoch: number }
  | { readonly type: 'release-guest' }
  | { readonly type: 'send-commit'; readonly epoch: number }
  | { readonly type: 'send-released'; readonly epoch: number }
  | { readonly type: 'send-aborted'; readonly epoch: number; readonly error: GodwitError }
  /** How the migration went is known: what may follow is between the agents. */
  | {
      readonly type: 'report';
      readonly moved: boolean;
      readonly error: GodwitError | undefined;
    };

export interface SourceStep {
  readonly state: SourceState;
  readonly effects: readonly SourceEffect[];
}

/**
 * The durable states that allow an effect; effects that are not named need none. The driver asserts
 * it: this is the promise, "never two, never none", in one table.
 */
export const SOURCE_PROOF: { readonly [T in SourceEffect['type']]?: readonly SourceStateName[] } = {
  'suspend-guest': ['suspended', 'superseded'],
  'resume-guest': ['suspended', 'aborted'],
  'seal-guest': ['suspended'],
  'release-guest': ['released', 'superseded'],
  'send-commit': ['committed'],
  'send-released': ['released'],
  // A restart in any of these leads to aborted, so it may be said already.
  'send-aborted': ['precopy', 'suspended', 'aborted'],
};

export const SOURCE_MACHINE: Machine<SourceStateName, SourceEvent, SourceEffect> = {
  step: sourceStep,
  proof: SOURCE_PROOF,
};

export function startSource(epoch: number): SourceState {
  return { name: 'precopy', epoch };
}

/** One step. An event that the state does not allow is a protocol error of the peer. */
export function sourceStep(state: SourceState, event: SourceEvent): SourceStep {
  const stay = (...effects: SourceEffect[]): SourceStep => ({ state, effects });
  switch (state.name) {
    case 'precopy':
      return precopyStep(state, event);
    case 'suspended':
      return suspendedStep(state, event);
    case 'committed':
      return committedStep(state, event);
    case 'aborted':
      return abortedStep(state, event);
    case 'released':
      switch (event.type) {
        case 'restart':
          return stay({ type: 'release-guest' });
        case 'recovered':
        case 'running':
          return stay({ type: 'send-released', epoch: state.epoch });
        case 'closed':
        case 'forgotten':
        case 'give-up': // the destination's host is gone for good: nobody to tell
          return ended(state);
      }
      return stay();
    case 'superseded':
      switch (event.type) {
        case 'restart':
          return stay({ type: 'suspend-guest' });
        case 'give-up':
          return ended(state, undefined, { type: 'release-guest' });
        case 'keep-here':
          return keepHere(state, event.error);
      }
      return stay();
    case 'ended':
      return stay();
    default:
      return never(state.name);
  }
}

function precopyStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'suspend':
      return to('suspended', state, undefined, [], [{ type: 'suspend-guest' }]);
    case 'abort':
      return to(
        'aborted',
        state,
        event.error,
        [],
        [report(false, event.error), sendAborted(state, event.error)],
      );
    case 'lost':
      if (event.error.fromPeer) return ended(state, event.error, report(false, event.error));
      return to('aborted', state, event.error, [], [report(false, event.error)]);
    case 'restart':
      // The destination may still hold memory for it: it is told.
      return to('aborted', state, event.error, [], [report(false, event.error)]);
  }
  return unexpected(state, event);
}

function suspendedStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'prepared':
      if (event.epoch !== state.epoch) return unexpected(state, event);
      return { state, effects: [{ type: 'seal-guest', epoch: state.epoch }] };
    case 'sealed':
      if (event.late) return rollBack(state, event.late);
      return to('committed', state, undefined, [], [{ type: 'send-commit', epoch: state.epoch }]);
    case 'refused':
    case 'abort':
    case 'lost':
    case 'restart':
      return rollBack(state, event.error);
  }
  return unexpected(state, event);
}

/** The guest first: the destination waits, the guest should not. Nothing was promised yet. */
function rollBack(state: SourceState, error: GodwitError): SourceStep {
  return to(
    'aborted',
    state,
    error,
    [{ type: 'resume-guest' }],
    [report(false, error), sendAborted(state, error)],
  );
}

function committedStep(state: SourceState, event: SourceEvent): SourceStep {
  const stay = (...effects: SourceEffect[]): SourceStep => ({ state, effects });
  switch (event.type) {
    case 'withdraw':
      return takeBack(state, event.error);
    case 'running':
      return release({ ...state, epoch: Math.max(state.epoch, event.epoch) });
    case 'refused':
      return takeBack({ ...state, epoch: Math.max(state.epoch, event.epoch) }, event.error);
    case 'recovered':
      return stay({ type: 'send-commit', epoch: state.epoch });
    case 'keep-here':
      return keepHere(state, event.error);
    case 'give-up':
      return release({ ...state, epoch: state.epoch + 1 }, event.error);
  }
  // Too late to take back: only the destination's answer, or a person, decides now.
  return stay();
}

function abortedStep(state: SourceState, event: SourceEvent): SourceStep {
  const stay = (...effects: SourceEffect[]): SourceStep => ({ state, effects });
  switch (event.type) {
    case 'restart':
      return stay({ type: 'resume-guest' });
    case 'recovered':
      // A person there has decided after us.
      if (event.epoch > state.epoch && event.state === 'running')
        return to(
          'superseded',
          { ...state, epoch: event.epoch },
          undefined,
          [],
          [{ type: 'suspend-guest' }],
        );
      return stay(sendAborted(state, interrupted()));
    case 'closed':
    case 'forgotten':
    case 'keep-here': // the destination's host is gone for good: nobody to tell
      return ended(state);
  }
  return stay();
}

/** Durable before the copy goes: a journal that still said committed would promise one. */
function release(state: SourceState, error?: GodwitError): SourceStep {
  return to(
    'released',
    state,
    error,
    [],
    [{ type: 'release-guest' }, { type: 'send-released', epoch: state.epoch }, report(true, error)],
  );
}

/** Durable before the guest runs: a journal that still said committed would send Commit again. */
function takeBack(state: SourceState, error: GodwitError): SourceStep {
  return to(
    'aborted',
    state,
    error,
    [],
    [{ type: 'resume-guest' }, report(false, error), sendAborted(state, error)],
  );
}

function keepHere(state: SourceState, error: GodwitError): SourceStep {
  return takeBack({ ...state, epoch: state.epoch + 1 }, error);
}

function to(
  name: SourceStateName,
  state: SourceState,
  error: GodwitError | undefined,
  before: readonly SourceEffect[],
  after: readonly SourceEffect[],
): SourceStep {
  return {
    state: { ...state, name },
    effects: [...before, journal(name, state.epoch, error), ...after],
  };
}

function ended(
  state: SourceState,
  error?: GodwitError,
  ...before: readonly SourceEffect[]
): SourceStep {
  return to('ended', state, error, before, []);
}

function journal(
  state: SourceStateName,
  epoch: number,
  error: GodwitError | undefined,
): SourceEffect {
  return { type: 'journal', state, epoch, error };
}

function sendAborted({ epoch }: SourceState, error: GodwitError): SourceEffect {
  return { type: 'send-aborted', epoch, error };
}

function report(moved: boolean, error?: GodwitError): SourceEffect {
  return { type: 'report', moved, error };
}

/** What a destination is told that asks later. */
function interrupted(): GodwitError {
  return new GodwitError('cancelled', 'the migration has ended: the guest runs on at its source');
}

/** A peer that answers out of order is not worth going on with. */
function unexpected(state: SourceState, event: SourceEvent): SourceStep {
  const what = 'epoch' in event ? `${event.type} of epoch ${event.epoch}` : event.type;
  const error = new GodwitError(
    'bad-message',
    `"${what}" is not allowed while the source is ${state.name} in epoch ${state.epoch}`,
  );
  return sourceStep(state, { type: 'abort', error });
}

function never(state: never): never {
  throw new Error(`no such state: ${state}`);
}
