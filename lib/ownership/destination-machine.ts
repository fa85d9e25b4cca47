import { GodwitError } from '../errors.ts';
import { type CommonEvent, type Machine, SAY, type State, type Step, stay } from './machine.ts';

/**
 * The destination's half of the handover, like the source's, which stands beside it.
 *
 * - receiving: memory arrives; the copy is incomplete.
 * - prepared: complete, verified, loaded, paused; it runs only when told to.
 * - running: the guest lives here.
 * - refused: the copy goes and never ran; kept until the source knows.
 * - discarded: the copy goes and never ran; the source need not hear of it.
 * - superseded: it runs elsewhere by a later decision; the copy here is stopped, for a person.
 * - ended: nothing is open.
 */
export const DESTINATION_STATES = [
  'receiving',
  'prepared',
  'running',
  'refused',
  'discarded',
  'superseded',
  'ended',
] as const;
export type DestinationStateName = (typeof DESTINATION_STATES)[number];
export type DestinationState = State<DestinationStateName>;
export type DestinationStep = Step<DestinationStateName>;

export type DestinationEvent =
  | CommonEvent
  /** Everything verified and loaded. */
  | { readonly type: 'complete' }
  | { readonly type: 'commit'; readonly epoch: number }
  /** The source wants the guest back if it has not run here. */
  | { readonly type: 'withdraw'; readonly epoch: number }
  | { readonly type: 'released'; readonly epoch: number }
  | { readonly type: 'aborted'; readonly epoch: number; readonly error: GodwitError }
  /** The guest has provably executed nothing here, and does not start. */
  | { readonly type: 'not-started'; readonly error: GodwitError }
  /** The source's Recover. */
  | { readonly type: 'recover' };

export const DESTINATION_MACHINE: Machine<DestinationStateName, DestinationEvent> = {
  step: destinationStep,
  gates: ['prepared', 'running'],
  // A copy that is stopped by a later decision must not be taken for one that has moved on.
  writtenFirst: ['running', 'superseded'],
  atRest: ['running', 'refused', 'discarded', 'ended'],
  ending: ['running', 'refused', 'discarded', 'superseded'],
};

export function startDestination(epoch: number): DestinationState {
  return { name: 'receiving', epoch, told: false };
}

/** One step. An event that the state does not allow is a protocol error of the peer. */
export function destinationStep(
  state: DestinationState,
  event: DestinationEvent,
  owns: boolean,
): DestinationStep {
  if (event.type === 'recover')
    return stay(state, { type: 'send-recovered', epoch: state.epoch, state: state.name });
  switch (state.name) {
    case 'receiving':
      return receivingStep(state, event);
    case 'prepared':
      return preparedStep(state, event);
    case 'running':
      return runningStep(state, event, owns);
    case 'refused':
      return refusedStep(state, event);
    case 'superseded':
      return supersededStep(state, event);
    case 'discarded':
    case 'ended':
      // A source that asked while the copy was being given up waits for an answer.
      if (event.type === 'aborted' || event.type === 'released') return stay(asked(state), SAY);
      return stay(state);
    default:
      return never(state.name);
  }
}

function receivingStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case 'complete':
      return { state: { ...state, name: 'prepared' }, acts: [SAY] };
    case 'abort':
    case 'unwritten':
      return {
        ...discarded(state, event.error),
        acts: [{ type: 'hang-up', error: event.error }],
      };
    case 'lost':
    case 'restart':
      return discarded(state, event.error);
    case 'aborted':
      return discarded(asked(state), event.error);
  }
  return unexpected(state, event);
}

function preparedStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case 'commit':
      if (event.epoch !== state.epoch) return unexpected(state, event);
      return run(state.epoch, undefined);
    case 'released':
      // A person at the source gave it up: it is ours.
      return run(Math.max(state.epoch, event.epoch), undefined);
    case 'withdraw':
      return refused(state, state.epoch, takenBack());
    case 'aborted':
      return discarded(asked(state), event.error);
    case 'abort':
    case 'unwritten':
      return refused(state, state.epoch, event.error);
    case 'lost':
    case 'restart':
      return stay(state); // only the source knows whether it committed
    case 'keep-here':
      return run(state.epoch + 1, event.error);
    case 'give-up':
      return refused(state, state.epoch + 1, event.error);
  }
  return unexpected(state, event);
}

function runningStep(
  state: DestinationState,
  event: DestinationEvent,
  owns: boolean,
): DestinationStep {
  switch (event.type) {
    case 'commit':
    case 'withdraw':
      return stay(state, SAY); // Running is said of a guest that does
    case 'released':
      return stay({ ...asked(state), told: true });
    case 'not-started':
      return refused(state, state.epoch, event.error);
    case 'aborted':
      return abortedWhileRunning(state, event, owns);
    case 'keep-here': // the source's host is gone for good: nobody to wait for
      return stay({ ...state, told: true });
    case 'give-up':
      // Gone from here because it has moved on: the source must not run its copy for that.
      return owns ? refused(state, state.epoch + 1, event.error) : stay(state);
  }
  // The guest lives here now; what becomes of the source no longer matters to it.
  return stay(state);
}

/** A person has decided at the source that the guest runs there. */
function abortedWhileRunning(
  state: DestinationState,
  event: { readonly epoch: number; readonly error: GodwitError },
  owns: boolean,
): DestinationStep {
  // The guest has gone on from here: no copy here can stand down, so the source's does.
  if (!owns) return stay(state, { type: 'send-recovered', epoch: state.epoch, state: 'moved' });
  // Its epoch is not ours when a person here decided after the source had aborted by itself.
  if (event.epoch < state.epoch)
    return stay(state, { type: 'send-recovered', epoch: state.epoch, state: 'running' });
  return {
    state: { name: 'superseded', epoch: event.epoch, told: false, asked: true },
    error: event.error,
    acts: [SAY],
  };
}

function refusedStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case 'commit':
    case 'withdraw':
      return stay(state, SAY);
    case 'aborted':
    case 'released':
      return stay({ ...asked(state), told: true });
    case 'give-up': // the source's host is gone for good: nobody to tell
      return stay({ ...state, told: true });
  }
  return stay(state);
}

function supersededStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case 'aborted':
      return stay(asked(state), SAY);
    case 'give-up':
      return { state: { ...state, name: 'discarded', told: true }, error: event.error, acts: [] };
    case 'gone':
      return stay({ ...state, told: true });
    case 'keep-here': {
      // The source has nothing left to say: the person there has decided before.
      const step = run(state.epoch + 1, event.error);
      return { ...step, state: { ...step.state, told: true } };
    }
  }
  return stay(state);
}

function run(epoch: number, error: GodwitError | undefined): DestinationStep {
  return {
    state: { name: 'running', epoch, told: false },
    error,
    acts: [SAY],
    report: { moved: true, error },
  };
}

/** The copy is gone before the source reads Refused and resumes its own. */
function refused(state: DestinationState, epoch: number, error: GodwitError): DestinationStep {
  // Who stopped waiting for the source took the guest for running here: the source has to hear of this.
  const told = state.told && state.asked === true;
  return {
    state: { name: 'refused', epoch, told },
    error,
    acts: [SAY],
    report: { moved: false, error },
  };
}

function discarded(state: DestinationState, error: GodwitError): DestinationStep {
  return {
    state: { ...state, name: 'discarded', told: true },
    error,
    acts: [SAY],
    report: { moved: false, error },
  };
}

function asked(state: DestinationState): DestinationState {
  return { ...state, asked: true };
}

function takenBack(): GodwitError {
  return new GodwitError('cancelled', 'the source took its word back before the guest ran here');
}

/** A peer that says what has no place is not worth going on with. */
function unexpected(state: DestinationState, event: DestinationEvent): DestinationStep {
  const what = 'epoch' in event ? `${event.type} of epoch ${event.epoch}` : event.type;
  const error = new GodwitError(
    'bad-message',
    `"${what}" is not allowed while the destination is ${state.name} in epoch ${state.epoch}`,
  );
  return destinationStep(state, { type: 'abort', error }, true);
}

function never(state: never): never {
  throw new Error(`no such state: ${state}`);
}
