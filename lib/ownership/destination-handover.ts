import { asGodwitError, GodwitError, isErrorCode } from '../errors.ts';
import type { GuestSuspension } from '../guest/guest.ts';
import type { Received } from '../wire/connection.ts';
import { type Choice, type Dilemma, destinationDilemma } from './decision.ts';
import {
  DESTINATION_MACHINE,
  type DestinationEvent,
  type DestinationState,
  type DestinationStateName,
} from './destination-machine.ts';
import { Handover, type HandoverOptions, wordsOf } from './handover.ts';
import type { Act } from './machine.ts';
import { type Copy, DESTINATION_OBLIGATIONS, type Standing } from './obligations.ts';

export interface DestinationHandoverOptions extends HandoverOptions<DestinationStateName> {
  /** How long memory was verified and device state loaded. */
  readonly preparedIn?: () => { readonly verifyMs: number; readonly loadMs: number };
  /** What the guest says of the suspension that it came out of. */
  readonly onSuspension?: (seen: GuestSuspension) => void;
}

/** The handover as the side that gets the guest sees it. */
export class DestinationHandover extends Handover<DestinationStateName, DestinationEvent> {
  readonly #options: DestinationHandoverOptions;
  #commitMs = 0;
  #resumeMs: number | undefined;
  #runState = '';

  constructor(
    options: DestinationHandoverOptions,
    machine = DESTINATION_MACHINE,
    obligations = DESTINATION_OBLIGATIONS,
  ) {
    super(
      { name: 'destination', machine, obligations, mayHaveRun: ['running', 'superseded'] },
      options,
    );
    this.#options = options;
  }

  override get dilemma(): Dilemma {
    return destinationDilemma(this.state.name);
  }

  protected override async checkDecision(choice: Choice, copy: Copy): Promise<void> {
    await super.checkDecision(choice, copy);
    if (choice !== 'give-up' || this.state.name !== 'running') return;
    if (copy !== 'gone')
      throw new GodwitError('too-late', 'the guest runs here: it cannot be given up');
    if (!this.#options.tenure.owns)
      throw new GodwitError('too-late', 'the guest has moved on from here: it cannot be given up');
  }

  /** What the source says about the handover; false when it is about something else. */
  hear({ kind, message }: Received): boolean {
    switch (kind) {
      case 'Commit':
        this.#commitMs = performance.now();
        this.tell({ type: 'commit', epoch: message.epoch });
        return true;
      case 'Withdraw':
        this.tell({ type: 'withdraw', epoch: message.epoch });
        return true;
      case 'Released':
        this.tell({ type: 'released', epoch: message.epoch });
        return true;
      case 'Aborted': {
        const text = `the source reports: ${message.text.replace(/\p{Cc}/gu, ' ')}`;
        // Why it did not move is told here as there; a code that cannot be one tells nothing.
        const code = isErrorCode(message.code) ? message.code : 'cancelled';
        const error = new GodwitError(code, text, { fromPeer: true });
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
      if (event.type === 'complete') this.tell({ type: 'abort', error });
    });
  }

  protected override perform(act: Exclude<Act, { type: 'say' }>): void {
    if (act.type === 'hang-up') return this.hangUp(act.error);
    if (act.type !== 'send-recovered') throw new Error(`the destination does not ${act.type}`);
    const { epoch, state } = act;
    // An aborted source would stop its copy for one that may never start: it asks again.
    if (state === 'running' && !this.isHeld) return;
    this.speak((voice) => voice.send('Recovered', { epoch, state }));
  }

  protected override held({ name }: DestinationState, standing: Standing): void {
    if (name !== 'running') return;
    this.#runState = standing;
    this.#resumeMs = performance.now() - this.#commitMs;
    if (standing === 'running') this.#options.log('info', 'the guest runs here');
    this.happened('postResume');
  }

  protected override whereabouts({ name }: DestinationState) {
    if (name === 'running') return 'here';
    return name === 'refused' || name === 'discarded' ? 'gone' : undefined;
  }

  protected override saying({ name }: DestinationState): string {
    return name === 'ended' || name === 'discarded' || name === 'superseded' ? 'closed' : name;
  }

  protected override say(
    state: DestinationState,
    error: GodwitError | undefined,
  ): void | Promise<void> {
    const { name, epoch, asked } = state;
    switch (name) {
      case 'prepared': {
        const times = this.#options.preparedIn?.() ?? { verifyMs: 0, loadMs: 0 };
        return this.speak((voice) => voice.send('Prepared', { epoch, ...times }));
      }
      case 'running': {
        const [resumeMs, runState] = [this.#resumeMs ?? 0, this.#runState];
        return this.speak((voice) => voice.send('Running', { epoch, resumeMs, runState }));
      }
      case 'refused': {
        const { code, message } = error ?? neverRan();
        const text = wordsOf({ message } as GodwitError);
        return this.speak((voice) => voice.send('Refused', { epoch, code, text }));
      }
      case 'superseded':
      case 'ended':
        return asked ? this.#sayClosed(epoch) : undefined;
    }
  }

  async #sayClosed(epoch: number): Promise<void> {
    const ran = this.#resumeMs !== undefined;
    const seen = ran ? await this.#suspension().catch(() => undefined) : undefined;
    if (seen) this.#options.onSuspension?.(seen);
    const guestSuspensionMs = seen?.ms ?? -1;
    const clock = seen?.clock ?? '';
    this.speak((voice) => voice.send('Closed', { epoch, guestSuspensionMs, clock }));
  }

  async #suspension(): Promise<GuestSuspension | undefined> {
    return (await this.here()).suspension();
  }
}

function neverRan(): GodwitError {
  return new GodwitError('cancelled', 'the destination gave the guest up and never ran it');
}
