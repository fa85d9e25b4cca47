import { GodwitError } from '../errors.ts';

/**
 * The source's half of the handover: who may run the guest, seen from the side that has it. Pure:
 * an event in, a state and effects out, effects in the order in which they must happen. The diagram
 * is in proto/WIRE.md.
 *
 * - precopy: the guest runs here.
 * - suspended: it is suspended here, and any trouble resumes it.
 * - committed: the right to run it was given away; nothing here resumes it but the destination's
 *   own word that it never will.
 * - released, aborted, unknown: ended.
 */
export interface SourceState {
  readonly name: 'precopy' | 'suspended' | 'committed' | 'released' | 'aborted' | 'unknown';
  readonly epoch: number;
}

export type SourceEvent =
  | { readonly type: 'suspend' }
  /** `late`: the error to abort with when the deadline has passed already. */
  | { readonly type: 'prepared'; readonly epoch: number; readonly late: GodwitError | undefined }
  | { readonly type: 'running'; readonly epoch: number }
  | { readonly type: 'refused'; readonly epoch: number; readonly error: GodwitError }
  | { readonly type: 'closed'; readonly epoch: number }
  /** Deadline, cancel, policy, or a failure on this side. */
  | { readonly type: 'abort'; readonly error: GodwitError }
  /** The control connection is gone, by the peer's Abort or without a word. */
  | { readonly type: 'lost'; readonly error: GodwitError };

export type SourceEffect =
  | { readonly type: 'suspend-guest' }
  | { readonly type: 'resume-guest' }
  | { readonly type: 'release-guest' }
  | { readonly type: 'send-commit'; readonly epoch: number }
  | { readonly type: 'send-released'; readonly epoch: number }
  | { readonly type: 'send-abort'; readonly error: GodwitError }
  | {
      readonly type: 'end';
      readonly state: 'released' | 'aborted' | 'unknown';
      readonly error: GodwitError | undefined;
    };

export interface SourceStep {
  readonly state: SourceState;
  readonly effects: readonly SourceEffect[];
}

export function startSource(epoch: number): SourceState {
  return { name: 'precopy', epoch };
}

/** One step. An event that the state does not allow is a protocol error of the peer. */
export function sourceStep(state: SourceState, event: SourceEvent): SourceStep {
  if ('epoch' in event && event.epoch !== state.epoch)
    return sourceStep(state, { type: 'abort', error: wrongEpoch(state, event.epoch) });
  const to = (name: SourceState['name'], ...effects: SourceEffect[]): SourceStep => ({
    state: { ...state, name },
    effects,
  });
  switch (state.name) {
    case 'precopy':
      switch (event.type) {
        case 'suspend':
          return to('suspended', { type: 'suspend-guest' });
        case 'abort':
          return to('aborted', sendAbort(event.error), end('aborted', event.error));
        case 'lost':
          return to('aborted', end('aborted', event.error));
      }
      return unexpected(state, event);
    case 'suspended':
      switch (event.type) {
        case 'prepared':
          if (event.late) return sourceStep(state, { type: 'abort', error: event.late });
          return to('committed', { type: 'send-commit', epoch: state.epoch });
        case 'refused':
        case 'abort':
          return to(
            'aborted',
            { type: 'resume-guest' },
            sendAbort(event.error),
            end('aborted', event.error),
          );
        case 'lost':
          return to('aborted', { type: 'resume-guest' }, end('aborted', event.error));
      }
      return unexpected(state, event);
    case 'committed':
      switch (event.type) {
        case 'running':
          return to(
            'released',
            { type: 'release-guest' },
            { type: 'send-released', epoch: state.epoch },
            end('released', undefined),
          );
        case 'refused':
          return to('aborted', { type: 'resume-guest' }, end('aborted', event.error));
        case 'lost':
          return to('unknown', end('unknown', unknownOutcome(event.error)));
        case 'abort':
          // Too late to take back: only the destination's answer decides now.
          return to('committed');
      }
      return unexpected(state, event);
    case 'released':
    case 'aborted':
    case 'unknown':
      return to(state.name);
    default:
      return never(state.name);
  }
}

function sendAbort(error: GodwitError): SourceEffect {
  return { type: 'send-abort', error };
}

function end(
  state: 'released' | 'aborted' | 'unknown',
  error: GodwitError | undefined,
): SourceEffect {
  return { type: 'end', state, error };
}

/** A peer that answers out of order is cut off; what that means depends on the state. */
function unexpected(state: SourceState, event: SourceEvent): SourceStep {
  const error = new GodwitError(
    'bad-message',
    `"${event.type}" is not allowed while the source is ${state.name}`,
  );
  return sourceStep(state, { type: state.name === 'committed' ? 'lost' : 'abort', error });
}

function wrongEpoch(state: SourceState, epoch: number): GodwitError {
  return new GodwitError(
    'bad-message',
    `handover message of epoch ${epoch}, this migration is epoch ${state.epoch}`,
  );
}

function unknownOutcome(cause: GodwitError): GodwitError {
  return new GodwitError(
    'outcome-unknown',
    `the destination was told to run the guest, then the connection was lost (${cause.message}); the source copy stays suspended: look at the destination before touching it`,
    { cause },
  );
}

function never(state: never): never {
  throw new Error(`no such state: ${state}`);
}
