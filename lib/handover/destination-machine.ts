import { GodwitError } from '../errors.ts';
import type { Machine } from './driver.ts';

/**
 * The destination's half of the handover. Pure, like the source's, which stands beside it.
 *
 * - receiving: memory arrives; the copy is incomplete.
 * - prepared: complete, verified, loaded, paused; it runs only when told to.
 * - running: the guest lives here.
 * - refused: the copy is gone and never ran; kept until the source knows.
 * - superseded: a person decided at the source that it runs there; suspended here for good.
 * - ended: nothing is open.
 */
export const DESTINATION_STATES = [
  'receiving',
  'prepared',
  'running',
  'refused',
  'superseded',
  'ended',
] as const;
export type DestinationStateName = (typeof DESTINATION_STATES)[number];

export interface DestinationState {
  readonly name: DestinationStateName;
  readonly epoch: number;
}

export type DestinationEvent =
  /** Everything verified and loaded. */
  | { readonly type: 'complete' }
  | { readonly type: 'commit'; readonly epoch: number }
  | { readonly type: 'released'; readonly epoch: number }
  | { readonly type: 'aborted'; readonly epoch: number; readonly error: GodwitError }
  /** The hypervisor did not start the guest. */
  | { readonly type: 'resume-failed'; readonly error: GodwitError }
  /** Cancel or a failure on this side. */
  | { readonly type: 'abort'; readonly error: GodwitError }
  /** The link to the source is given up, by the peer's Abort or because nobody came back. */
  | { readonly type: 'lost'; readonly error: GodwitError }
  /** This agent was started again and has read this state from its journal. */
  | { readonly type: 'restart'; readonly error: GodwitError }
  /** The source's Recover. */
  | { readonly type: 'recover' }
  /** A person's decisions. */
  | { readonly type: 'keep-here'; readonly error: GodwitError }
  | { readonly type: 'give-up'; readonly error: GodwitError };

export type DestinationEffect =
  /** Makes the state durable; nothing after it happens unless it is. */
  | {
      readonly type: 'journal';
      readonly state: DestinationStateName;
      readonly epoch: number;
      readonly error: GodwitError | undefined;
    }
  | { readonly type: 'send-prepared'; readonly epoch: number }
  | { readonly type: 'resume-guest' }
  | { readonly type: 'suspend-guest' }
  | { readonly type: 'discard-guest' }
  | { readonly type: 'send-running'; readonly epoch: number }
  | { readonly type: 'send-refused'; readonly epoch: number; readonly error: GodwitError }
  | { readonly type: 'send-closed'; readonly epoch: number }
  | {
      readonly type: 'send-recovered';
      readonly epoch: number;
      readonly state: DestinationStateName;
    }
  /** Before the copy was complete: ends the connection with the reason. */
  | { readonly type: 'send-abort'; readonly error: GodwitError }
  /** How the migration went is known: what may follow is between the agents. */
  | {
      readonly type: 'report';
      readonly moved: boolean;
      readonly error: GodwitError | undefined;
    };

export interface DestinationStep {
  readonly state: DestinationState;
  readonly effects: readonly DestinationEffect[];
}

/** The durable states that allow an effect, as `SOURCE_PROOF`. */
export const DESTINATION_PROOF: {
  readonly [T in DestinationEffect['type']]?: readonly DestinationStateName[];
} = {
  'send-prepared': ['prepared'],
  'resume-guest': ['running'],
  'suspend-guest': ['superseded'],
  'discard-guest': ['receiving', 'refused', 'superseded'],
  'send-running': ['running'],
  'send-refused': ['refused'],
  'send-closed': ['ended', 'superseded'],
};

export const DESTINATION_MACHINE: Machine<
  DestinationStateName,
  DestinationEvent,
  DestinationEffect
> = { step: destinationStep, proof: DESTINATION_PROOF };

export function startDestination(epoch: number): DestinationState {
  return { name: 'receiving', epoch };
}

export function destinationStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  const stay = (...effects: DestinationEffect[]): DestinationStep => ({ state, effects });
  if (event.type === 'recover')
    return stay({ type: 'send-recovered', epoch: state.epoch, state: state.name });
  switch (state.name) {
    case 'receiving':
      return receivingStep(state, event);
    case 'prepared':
      return preparedStep(state, event);
    case 'running':
      return runningStep(state, event);
    case 'refused':
      switch (event.type) {
        case 'restart':
          return stay({ type: 'discard-guest' });
        case 'commit':
          return stay({ type: 'send-refused', epoch: state.epoch, error: neverRan() });
        case 'aborted':
        case 'released':
          return to('ended', state, undefined, [], [sendClosed(state)]);
        case 'give-up': // the source's host is gone for good: nobody to tell
          return to('ended', state, undefined, [], []);
      }
      return stay();
    case 'superseded':
      switch (event.type) {
        case 'restart':
          return stay({ type: 'suspend-guest' });
        case 'aborted':
          return stay(sendClosed(state));
        case 'give-up':
          return to('ended', state, event.error, [{ type: 'discard-guest' }], []);
        case 'keep-here':
          return keepHere(state, event.error);
      }
      return stay();
    case 'ended':
      // A source that asked while the copy was being given up waits for an answer.
      if (event.type === 'aborted' || event.type === 'released') return stay(sendClosed(state));
      return stay();
    default:
      return never(state.name);
  }
}

function receivingStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case 'complete':
      return to('prepared', state, undefined, [], [{ type: 'send-prepared', epoch: state.epoch }]);
    case 'abort':
      return to(
        'ended',
        state,
        event.error,
        [{ type: 'send-abort', error: event.error }, { type: 'discard-guest' }],
        [report(false, event.error)],
      );
    case 'lost':
    case 'restart':
      return discard(state, event.error, []);
    case 'aborted':
      return discard(state, event.error, [], sendClosed(state));
  }
  return unexpected(state, event);
}

function preparedStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case 'commit':
      if (event.epoch !== state.epoch) return unexpected(state, event);
      return run(state, undefined);
    case 'released':
      // A person at the source gave it up: it is ours.
      return run({ ...state, epoch: Math.max(state.epoch, event.epoch) }, undefined);
    case 'aborted':
      // Refused first: a journal that still said prepared would promise a complete copy.
      return discard(
        state,
        event.error,
        [journal('refused', state, event.error)],
        sendClosed(state),
      );
    case 'abort':
      return refuse(state, event.error);
    case 'lost':
    case 'restart':
      return { state, effects: [] }; // only the source knows whether it committed
    case 'keep-here':
      return keepHere(state, event.error);
    case 'give-up':
      return refuse({ ...state, epoch: state.epoch + 1 }, event.error);
  }
  return unexpected(state, event);
}

function runningStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  const stay = (...effects: DestinationEffect[]): DestinationStep => ({ state, effects });
  switch (event.type) {
    case 'commit': // again; Running may only be said of a guest that does
      return stay({ type: 'resume-guest' }, { type: 'send-running', epoch: state.epoch });
    case 'restart':
      return stay({ type: 'resume-guest' });
    case 'released':
      return to('ended', state, undefined, [], [sendClosed(state)]);
    case 'resume-failed':
      return refuse(state, event.error);
    case 'aborted':
      // Its epoch is not ours when a person here decided after the source had aborted by itself.
      if (event.epoch < state.epoch)
        return stay({ type: 'send-recovered', epoch: state.epoch, state: state.name });
      return to(
        'superseded',
        { ...state, epoch: event.epoch },
        event.error,
        [],
        [{ type: 'suspend-guest' }, sendClosed({ ...state, epoch: event.epoch })],
      );
    case 'keep-here': // the source's host is gone for good: nobody to wait for
      return to('ended', state, undefined, [], []);
    case 'give-up':
      return refuse({ ...state, epoch: state.epoch + 1 }, event.error);
  }
  // The guest lives here now; what becomes of the source no longer matters to it.
  return stay();
}

function run(state: DestinationState, error: GodwitError | undefined): DestinationStep {
  return to(
    'running',
    state,
    error,
    [],
    [{ type: 'resume-guest' }, { type: 'send-running', epoch: state.epoch }, report(true, error)],
  );
}

function keepHere(state: DestinationState, error: GodwitError): DestinationStep {
  return run({ ...state, epoch: state.epoch + 1 }, error);
}

/** The copy is destroyed before the source reads Refused and resumes its own. */
function refuse(state: DestinationState, error: GodwitError): DestinationStep {
  return to(
    'refused',
    state,
    error,
    [],
    [
      { type: 'discard-guest' },
      report(false, error),
      { type: 'send-refused', epoch: state.epoch, error },
    ],
  );
}

function discard(
  state: DestinationState,
  error: GodwitError,
  before: readonly DestinationEffect[],
  ...after: readonly DestinationEffect[]
): DestinationStep {
  const gone = [...before, { type: 'discard-guest' } as const];
  return to('ended', state, error, gone, [report(false, error), ...after]);
}

function to(
  name: DestinationStateName,
  state: DestinationState,
  error: GodwitError | undefined,
  before: readonly DestinationEffect[],
  after: readonly DestinationEffect[],
): DestinationStep {
  return {
    state: { ...state, name },
    effects: [...before, journal(name, state, error), ...after],
  };
}

function journal(
  state: DestinationStateName,
  { epoch }: DestinationState,
  error: GodwitError | undefined,
): DestinationEffect {
  return { type: 'journal', state, epoch, error };
}

function sendClosed({ epoch }: DestinationState): DestinationEffect {
  return { type: 'send-closed', epoch };
}

function report(moved: boolean, error?: GodwitError): DestinationEffect {
  return { type: 'report', moved, error };
}

function neverRan(): GodwitError {
  return new GodwitError('cancelled', 'the destination gave the guest up and never ran it');
}

/** A peer that says what has no place is not worth going on with. */
function unexpected(state: DestinationState, event: DestinationEvent): DestinationStep {
  const what = 'epoch' in event ? `${event.type} of epoch ${event.epoch}` : event.type;
  const error = new GodwitError(
    'bad-message',
    `"${what}" is not allowed while the destination is ${state.name} in epoch ${state.epoch}`,
  );
  return destinationStep(state, { type: 'abort', error });
}

function never(state: never): never {
  throw new Error(`no such state: ${state}`);
}
