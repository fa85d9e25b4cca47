import { GodwitError } from '../errors.ts';
import { type CommonEvent, type Machine, SAY, type State, type Step, stay } from './machine.ts';

/**
 * The source's half of the handover: who may run the guest, seen from the side that has it. Diagram
 * and the table of every pair are in proto/WIRE.md.
 *
 * - precopy: the guest runs here.
 * - suspended: it is suspended here, and any trouble resumes it.
 * - committed: the right to run it was given away, or may have been: nothing here resumes it but the
 *   destination's own word that it never will, or a person's.
 * - released: the destination has it; its copy here goes.
 * - aborted: it runs on here, and the destination may still have to be told.
 * - superseded: it runs elsewhere by a later decision; the copy here is stopped, for a person.
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
export type SourceState = State<SourceStateName>;
export type SourceStep = Step<SourceStateName>;

export type SourceEvent =
  | CommonEvent
  | { readonly type: 'suspend' }
  | { readonly type: 'prepared'; readonly epoch: number }
  /** Nothing but this agent resumes the copy. `late`: the deadline has passed: aborts with that. */
  | { readonly type: 'sealed'; readonly late: GodwitError | undefined }
  /** Committed here, but too late for Commit: the destination is asked not to run it. */
  | { readonly type: 'withdraw'; readonly error: GodwitError }
  | { readonly type: 'running'; readonly epoch: number }
  | { readonly type: 'refused'; readonly epoch: number; readonly error: GodwitError }
  | { readonly type: 'closed'; readonly epoch: number }
  /** The destination's answer to Recover; `moved`: the guest has gone on from there. */
  | { readonly type: 'recovered'; readonly epoch: number; readonly state: string }
  /** The destination knows nothing of the migration. */
  | { readonly type: 'forgotten'; readonly proves: boolean };

export const SOURCE_MACHINE: Machine<SourceStateName, SourceEvent> = {
  step: sourceStep,
  gates: ['suspended', 'committed'],
  // The copy goes after its record: a journal that still said committed would promise one. And before
  // it is stopped by a later decision, nobody may begin a migration of it any more.
  writtenFirst: ['released', 'superseded'],
  atRest: ['aborted', 'released', 'ended'],
  ending: ['aborted', 'released', 'superseded'],
};

export function startSource(epoch: number): SourceState {
  return { name: 'precopy', epoch, told: false };
}

/** One step. An event that the state does not allow is a protocol error of the peer. */
export function sourceStep(state: SourceState, event: SourceEvent, owns: boolean): SourceStep {
  switch (state.name) {
    case 'precopy':
      return precopyStep(state, event);
    case 'suspended':
      return suspendedStep(state, event);
    case 'committed':
      return committedStep(state, event);
    case 'aborted':
      return abortedStep(state, event, owns);
    case 'released':
      return releasedStep(state, event);
    case 'superseded':
      return supersededStep(state, event);
    case 'ended':
      return stay(state);
    default:
      return never(state.name);
  }
}

function precopyStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'suspend':
      return { state: { ...state, name: 'suspended' }, acts: [{ type: 'suspend-guest' }] };
    case 'lost':
      // A destination that has ended it by its own word has nothing left to hear.
      return aborted(event.error.fromPeer ? { ...state, told: true } : state, event.error);
    case 'abort':
    case 'restart':
    case 'unwritten':
      return aborted(state, event.error);
    case 'forgotten':
      return forgotten(state, event);
  }
  return unexpected(state, event);
}

function suspendedStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'prepared':
      if (event.epoch !== state.epoch) return unexpected(state, event);
      return stay(state, { type: 'seal-guest' });
    case 'sealed':
      if (event.late) return aborted(state, event.late);
      return { state: { ...state, name: 'committed' }, acts: [SAY] };
    case 'refused':
    case 'abort':
    case 'lost':
    case 'restart':
    case 'unwritten':
      return aborted(state, event.error);
  }
  return unexpected(state, event);
}

function committedStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'withdraw':
      return stay({ ...state, withdrawn: event.error }, SAY);
    case 'running':
      return released(state, Math.max(state.epoch, event.epoch), undefined);
    case 'refused':
      return aborted(later(state, event.epoch), state.withdrawn ?? event.error);
    case 'recovered':
      return stay(state, SAY);
    case 'keep-here':
      return aborted(later(state, state.epoch + 1), event.error);
    case 'give-up':
      return released(state, state.epoch + 1, event.error);
  }
  // Too late to take back: only the destination's answer, or a person, decides now.
  return stay(state);
}

function abortedStep(state: SourceState, event: SourceEvent, owns: boolean): SourceStep {
  switch (event.type) {
    case 'recovered': {
      const decidedThere = event.state === 'running' && event.epoch > state.epoch;
      const moved = event.state === 'moved';
      if (!decidedThere && !moved) return stay(state, SAY);
      // The guest has lived on there. Whichever side has moved on cannot stand down, so the other does.
      if (owns) return superseded(state, event.epoch);
      // Both have: no agent can stop what runs on third hosts.
      if (moved) return { ...stay({ ...state, told: true }), error: twoHosts() };
      return { state: later(state, event.epoch), acts: [SAY] };
    }
    case 'forgotten':
      return forgotten(state, event);
    case 'closed':
    case 'keep-here': // the destination's host is gone for good: nobody to tell
      return stay({ ...state, told: true });
  }
  return stay(state);
}

function releasedStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'recovered':
    case 'running':
      return stay(state, SAY);
    case 'forgotten':
      return forgotten(state, event);
    case 'closed':
    case 'give-up': // the destination's host is gone for good: nobody to tell
      return stay({ ...state, told: true });
  }
  return stay(state);
}

function supersededStep(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case 'give-up':
      return {
        state: { ...state, name: 'released', told: false },
        error: event.error,
        acts: [SAY],
      };
    case 'gone':
      return stay({ ...state, told: true });
    case 'keep-here':
      return aborted(later({ ...state, told: false }, state.epoch + 1), event.error);
  }
  return stay(state);
}

/** The guest first, then the record, then the word: the destination waits, the guest should not. */
function aborted(state: SourceState, error: GodwitError): SourceStep {
  const { epoch, told } = state;
  return {
    state: { name: 'aborted', epoch, told },
    error,
    acts: [SAY],
    report: { moved: false, error },
  };
}

function released(state: SourceState, epoch: number, error: GodwitError | undefined): SourceStep {
  return {
    state: { name: 'released', epoch, told: state.told },
    error,
    acts: [SAY],
    report: { moved: true, error },
  };
}

function superseded(state: SourceState, epoch: number): SourceStep {
  const text = 'the guest runs elsewhere by a later decision: its copy here was stopped';
  return {
    state: { name: 'superseded', epoch: Math.max(state.epoch, epoch), told: false },
    error: new GodwitError('resolved', text),
    acts: [],
  };
}

function forgotten(state: SourceState, { proves }: { readonly proves: boolean }): SourceStep {
  return stay(proves ? { ...state, told: true } : state);
}

function later(state: SourceState, epoch: number): SourceState {
  return { ...state, epoch: Math.max(state.epoch, epoch) };
}

function twoHosts(): GodwitError {
  const text =
    'a person has kept the guest on both sides, and both have moved it on: two copies may run on other hosts';
  return new GodwitError('outcome-unknown', text);
}

/** A peer that answers out of order is not worth going on with. */
function unexpected(state: SourceState, event: SourceEvent): SourceStep {
  const what = 'epoch' in event ? `${event.type} of epoch ${event.epoch}` : event.type;
  const error = new GodwitError(
    'bad-message',
    `"${what}" is not allowed while the source is ${state.name} in epoch ${state.epoch}`,
  );
  return sourceStep(state, { type: 'abort', error }, true);
}

function never(state: never): never {
  throw new Error(`no such state: ${state}`);
}
