import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { GuestSuspension } from '../lib/guest/guest.ts';
import {
  DESTINATION_MACHINE,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationStateName,
} from '../lib/handover/destination-machine.ts';
import { Handover, type HandoverOptions, wordsOf } from '../lib/handover/handover.ts';
import { type Choice, type Dilemma, destinationDilemma } from '../lib/handover/resolve.ts';
import type { Received } from '../lib/wire/channel.ts';

export interface DestinationHandoverOptions extends HandoverOptions<DestinationStateName> {
  /** How long memory was verified and device state loaded. */
  readonly preparedIn?: () => { readonly verifyMs: number; readonly loadMs: number };
  /** What the guest says of the suspension that it came out of. */
  readonly onSuspension?: (seen: GuestSuspension) => void;
}

/** The handover as the side that gets the guest sees it. */
export class DestinationHandover extends Handover<
  DestinationStateName,
  DestinationEvent,
  DestinationEffect
> {
  readonly #options: DestinationHandoverOptions;
  #resumeMs: number | undefined;

  constructor(options: DestinationHandoverOptions, machine = DESTINATION_MACHINE) {
    super('destination', machine, options);
    this.#options = options;
  }

  override get dilemma(): Dilemma {
    return destinationDilemma(this.state.name);
  }

  override async resolve(choice: Choice): Promise<void> {
    const running = this.state.name === 'running' && (await this.#options.guest()) !== undefined;
    if (running && choice === 'give-up')
      throw new GodwitError('too-late', 'the guest runs here: it cannot be given up');
    return super.resolve(choice);
  }

  /** What the source says about the handover; false when it is about something else. */
  hear({ kind, message }: Received): boolean {
    switch (kind) {
      case 'Commit':
        this.tell({ type: 'commit', epoch: message.epoch });
        return true;
      case 'Released':
        this.tell({ type: 'released', epoch: message.epoch });
        return true;
      case 'Aborted': {
        const text = `the source reports: ${message.text.replace(/\p{Cc}/gu, ' ')}`;
        const error = new GodwitError('cancelled', text, { fromPeer: true });
        this.tell({ type: 'aborted', epoch: message.epoch, error });
        return true;
      }
      case 'Recover':
        this.tell({ type: 'recover' });
        return true;
      default:
        return false;
    }
  }

  /** An event whose failure is logged, and aborts as long as the guest has never run. */
  tell(event: DestinationEvent): void {
    this.dispatch(event).catch((thrown) => {
      const error = asGodwitError(thrown);
      this.#options.log('error', `${event.type}: ${error.message}`);
      if (event.type === 'complete' || (event.type === 'commit' && this.state.name === 'prepared'))
        this.tell({ type: 'abort', error });
    });
  }

  protected override async perform(
    effect: Exclude<DestinationEffect, { type: 'journal' }>,
  ): Promise<void> {
    const { guest, preparedIn, onReport } = this.#options;
    switch (effect.type) {
      case 'send-prepared': {
        const times = preparedIn?.() ?? { verifyMs: 0, loadMs: 0 };
        return this.say((voice) => voice.send('Prepared', { epoch: effect.epoch, ...times }));
      }
      case 'resume-guest':
        return this.#resume();
      case 'suspend-guest':
        return (await guest())?.suspend();
      case 'discard-guest':
        return (await guest())?.destroy();
      case 'send-running': {
        const resumeMs = this.#resumeMs ?? 0;
        return this.say((voice) => voice.send('Running', { epoch: effect.epoch, resumeMs }));
      }
      case 'send-refused': {
        const { epoch, error } = effect;
        const text = wordsOf(error);
        return this.say((voice) => voice.send('Refused', { epoch, code: error.code, text }));
      }
      case 'send-closed':
        return this.#sendClosed(effect.epoch);
      case 'send-recovered': {
        const { epoch, state } = effect;
        return this.say((voice) => voice.send('Recovered', { epoch, state }));
      }
      case 'send-abort':
        return this.hangUp(effect.error);
      case 'report':
        return onReport(effect.moved, effect.error);
    }
  }

  /**
   * A guest that does not start has never run, so it is refused. After a restart nobody can tell: it
   * may have run and died, and its source copy is of the past. A person decides then.
   */
  async #resume(): Promise<void> {
    const { guest, start, log } = this.#options;
    if (this.#resumeMs !== undefined) return; // once is enough: what stops it later is not ours
    const started = performance.now();
    try {
      const copy = await guest();
      if (copy === undefined)
        throw new GodwitError('guest-died', 'the guest is gone from this host');
      await copy.resume();
      this.#resumeMs = performance.now() - started;
      log('info', 'the guest runs here');
      this.happened('postResume');
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (start.name !== 'running') this.tell({ type: 'resume-failed', error });
      throw error;
    }
  }

  async #sendClosed(epoch: number): Promise<void> {
    const { guest, onSuspension } = this.#options;
    const copy = this.#resumeMs !== undefined ? await guest() : undefined;
    const seen = await copy?.suspension().catch(() => undefined);
    if (seen) onSuspension?.(seen);
    const guestSuspensionMs = seen?.ms ?? -1;
    this.say((voice) =>
      voice.send('Closed', { epoch, guestSuspensionMs, clock: seen?.clock ?? '' }),
    );
  }
}
