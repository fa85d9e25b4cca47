import { asGodwitError, GodwitError } from '../lib/errors.ts';
import { Handover, type HandoverOptions, wordsOf } from '../lib/handover/handover.ts';
import { type Dilemma, sourceDilemma } from '../lib/handover/resolve.ts';
import {
  SOURCE_MACHINE,
  type SourceEffect,
  type SourceEvent,
  type SourceStateName,
} from '../lib/handover/source-machine.ts';
import type { Received } from '../lib/wire/channel.ts';

export interface SourceHandoverOptions extends HandoverOptions<SourceStateName> {
  /** The guest stops, or has just done so. */
  readonly onSuspend?: () => void;
  /** The guest runs here again. */
  readonly onResume?: () => void;
  /** The error to abort with when the deadline has passed. */
  readonly late?: () => GodwitError | undefined;
  /** Commit is durable and about to be said; an error takes it back instead. */
  readonly beforeCommit?: () => GodwitError | undefined;
}

/** The handover as the side that has the guest sees it. */
export class SourceHandover extends Handover<SourceStateName, SourceEvent, SourceEffect> {
  readonly #options: SourceHandoverOptions;

  constructor(options: SourceHandoverOptions, machine = SOURCE_MACHINE) {
    super('source', machine, options);
    this.#options = options;
  }

  override get dilemma(): Dilemma {
    return sourceDilemma(this.state.name);
  }

  /** What the destination says about the handover; false when it is about something else. */
  hear({ kind, message }: Received): boolean {
    switch (kind) {
      case 'Prepared':
        this.#dispatch({ type: 'prepared', epoch: message.epoch });
        return true;
      case 'Running':
        this.#dispatch({ type: 'running', epoch: message.epoch });
        return true;
      case 'Refused': {
        const text = `the destination refused the commit: ${message.text}`;
        const error = new GodwitError('commit-refused', text, { fromPeer: true });
        this.#dispatch({ type: 'refused', epoch: message.epoch, error });
        return true;
      }
      case 'Closed':
        this.#dispatch({ type: 'closed', epoch: message.epoch });
        return true;
      case 'Recovered':
        this.#dispatch({ type: 'recovered', epoch: message.epoch, state: message.state });
        return true;
      default:
        return false;
    }
  }

  /** What fails while the destination is answered aborts as long as nothing is promised. */
  #dispatch(event: SourceEvent): void {
    this.dispatch(event).catch((thrown) => {
      const error = asGodwitError(thrown);
      this.#options.log('error', error.message);
      if (this.state.name === 'suspended') this.#dispatch({ type: 'abort', error });
    });
  }

  protected override async perform(
    effect: Exclude<SourceEffect, { type: 'journal' }>,
  ): Promise<void> {
    const { guest, onSuspend, onResume, onReport } = this.#options;
    switch (effect.type) {
      case 'suspend-guest':
        return (await guest())?.suspend(onSuspend);
      case 'resume-guest':
        await this.#resume();
        this.happened('postResume');
        return onResume?.();
      case 'seal-guest':
        return this.#seal(effect.epoch);
      case 'release-guest':
        await (await guest())?.destroy();
        return this.happened('postRelease');
      case 'send-commit':
        return this.#commit(effect.epoch);
      case 'send-released':
        return this.say((voice) => voice.send('Released', { epoch: effect.epoch }));
      case 'send-aborted': {
        const { epoch, error } = effect;
        const text = wordsOf(error);
        return this.say((voice) => voice.send('Aborted', { epoch, code: error.code, text }));
      }
      case 'report':
        return onReport(effect.moved, effect.error);
    }
  }

  async #seal(epoch: number): Promise<void> {
    const { guest, late } = this.#options;
    await (await guest())?.seal();
    this.#dispatch({ type: 'sealed', epoch, late: late?.() });
  }

  /** A guest that is gone cannot be resumed; what follows is told all the same. */
  async #resume(): Promise<void> {
    const { guest, log } = this.#options;
    try {
      const copy = await guest();
      if (copy === undefined) log('error', 'the guest is gone from this host');
      await copy?.resume();
    } catch (thrown) {
      log('error', `the guest was not resumed: ${asGodwitError(thrown).message}`);
    }
  }

  #commit(epoch: number): void {
    const say = () => this.say((voice) => voice.send('Commit', { epoch }));
    const late = this.#options.beforeCommit?.();
    if (late === undefined) return say();
    // Without a record that takes it back, commit stands.
    this.dispatch({ type: 'withdraw', error: late }).catch(say);
  }
}
