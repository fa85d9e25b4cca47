import { GodwitError } from '../errors.ts';

/**
 * The destination's half of the handover. Pure, like the source's, which stands beside it.
 *
 * - receiving: memory arrives; the copy is incomplete.
 * - prepared: complete, verified, loaded, paused; it runs only when told to.
 * - running: the guest lives here.
 * - closed, discarded: ended.
 */
export interface DestinationState {
  readonly name: 'receiving' | 'prepared' | 'running' | 'closed' | 'discarded';
  readonly epoch: number;
}

export type DestinationEvent =
  /** Everything verified and loaded. */
  | { readonly type: 'complete' }
  | { readonly type: 'commit'; readonly epoch: number }
  /** The hypervisor did not start the guest. */
  | { readonly type: 'resume-failed'; readonly error: GodwitError }
  | { readonly type: 'released'; readonly epoch: number }
  /** Cancel or a failure on this side. */
  | { readonly type: 'abort'; readonly error: GodwitError }
  /** The control connection is gone, by the peer's Abort or without a word. */
  | { readonly type: 'lost'; readonly error: GodwitError };

export type DestinationEffect =
  | { readonly type: 'send-prepared'; readonly epoch: number }
  | { readonly type: 'resume-guest' }
  | { readonly type: 'send-running'; readonly epoch: number }
  | { readonly type: 'send-closed'; readonly epoch: number }
  | { readonly type: 'send-refused'; readonly epoch: number; readonly error: GodwitError }
  | { readonly type: 'send-abort'; readonly error: GodwitError }
  | { readonly type: 'discard-guest' }
  | {
      readonly type: 'end';
      readonly state: 'closed' | 'discarded';
      readonly error: GodwitError | undefined;
    };

export interface DestinationStep {
  readonly state: DestinationState;
  readonly effects: readonly DestinationEffect[];
}

export function startDestination(epoch: number): DestinationState {
  return { name: 'receiving', epoch };
}

export function destinationStep(state: DestinationState, event: DestinationEvent): DestinationStep {
  if ('epoch' in event && event.epoch !== state.epoch) {
    const error = new GodwitError(
      'bad-message',
      `handover message of epoch ${event.epoch}, this migration is epoch ${state.epoch}`,
    );
    return destinationStep(state, { type: 'abort', error });
  }
  const to = (name: DestinationState['name'], ...effects: DestinationEffect[]) => ({
    state: { ...state, name },
    effects,
  });
  const discard = (error: GodwitError, ...first: DestinationEffect[]) =>
    to(
      'discarded',
      ...first,
      { type: 'discard-guest' },
      { type: 'end', state: 'discarded', error },
    );
  switch (state.name) {
    case 'receiving':
      switch (event.type) {
        case 'complete':
          return to('prepared', { type: 'send-prepared', epoch: state.epoch });
        case 'abort':
          return discard(event.error, { type: 'send-abort', error: event.error });
        case 'lost':
          return discard(event.error);
      }
      return unexpected(state, event);
    case 'prepared':
      switch (event.type) {
        case 'commit':
          return to(
            'running',
            { type: 'resume-guest' },
            { type: 'send-running', epoch: state.epoch },
          );
        case 'abort':
          // Commit may be on its way already: Abort would leave its sender in doubt, Refused does not.
          return discard(event.error, {
            type: 'send-refused',
            epoch: state.epoch,
            error: event.error,
          });
        case 'lost':
          return discard(event.error);
      }
      return unexpected(state, event);
    case 'running':
      switch (event.type) {
        case 'released':
          return to(
            'closed',
            { type: 'send-closed', epoch: state.epoch },
            { type: 'end', state: 'closed', error: undefined },
          );
        case 'resume-failed':
          // Destroyed first: once the source reads Refused it resumes its own copy.
          return to(
            'discarded',
            { type: 'discard-guest' },
            { type: 'send-refused', epoch: state.epoch, error: event.error },
            { type: 'end', state: 'discarded', error: event.error },
          );
        case 'abort':
        case 'lost':
          // The guest lives here now; what the source does no longer matters to it.
          return to('closed', { type: 'end', state: 'closed', error: event.error });
      }
      return unexpected(state, event);
    case 'discarded':
    case 'closed':
      return to(state.name);
    default:
      return never(state.name);
  }
}

function unexpected(state: DestinationState, event: DestinationEvent): DestinationStep {
  const error = new GodwitError(
    'bad-message',
    `"${event.type}" is not allowed while the destination is ${state.name}`,
  );
  return destinationStep(state, { type: 'abort', error });
}

function never(state: never): never {
  throw new Error(`no such state: ${state}`);
}
