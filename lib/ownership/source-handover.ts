import { asGodwitError, GodwitError } from '../errors.ts';
import type { GuestSuspension } from '../guest/guest.ts';
import { RUN_STATE_WORDS, type RunState } from '../guest/run-state.ts';
import type { Received } from '../wire/connection.ts';
import { type Dilemma, sourceDilemma } from './decision.ts';
import { Handover, type HandoverOptions, wordsOf } from './handover.ts';
import type { Act } from './machine.ts';
import { SOURCE_OBLIGATIONS, type Standing } from './obligations.ts';
import {
  SOURCE_MACHINE,
  type SourceEvent,
  type SourceState,
  type SourceStateName,
} from './source-machine.ts';

export interface SourceHandoverOptions extends HandoverOptions<SourceStateName> {
  /** The guest stops, or has done so that long ago, ms. */
  readonly onSuspend?: (agoMs: number) => void;
  /** The guest runs here again. */
  readonly onResume?: () => void;
  /** The error to abort with when the deadline has passed. */
  readonly late?: () => GodwitError | undefined;
  /** Commit is durable and about to be said; an error takes it back instead. */
  readonly beforeCommit?: () => GodwitError | undefined;
}

/** The handover as the side that has the guest sees it. */
export class SourceHandover extends Handover<SourceStateName, SourceEvent> {
  readonly #options: SourceHandoverOptions;
  #seal: Uint8Array;

  constructor(
    options: SourceHandoverOptions,
    machine = SOURCE_MACHINE,
    obligations = SOURCE_OBLIGATIONS,
  ) {
    super({ name: 'source', machine, obligations, mayHaveRun: SOURCE_HAS_RUN }, options);
    this.#options = options;
    this.#seal = options.entry.seal;
  }

  override get dilemma(): Dilemma {
    return sourceDilemma(this.state.name);
  }

  /**
   * Suspends the guest as part of the migration.
   * @param runState what it does, and is to do afterwards: it may be paused
   * @throws GodwitError guest-stopped when it stands for a reason of its own: it stays as it is
   */
  async suspend(runState: 'running' | 'paused' = 'running'): Promise<void> {
    this.remember(runState);
    await this.dispatch({ type: 'suspend' });
  }

  /**
   * The destination knows nothing of the migration. It has given it up, or is not the agent that it
   * was: where it was allowed to run the guest, only its own word or a person ends that.
   */
  hearForgotten(): Promise<void> {
    const proves = this.state.name !== 'committed' && this.decision === undefined;
    return this.dispatch({ type: 'forgotten', proves });
  }

  /** What the destination says about the handover; false when it is about something else. */
  hear({ kind, message }: Received): boolean {
    switch (kind) {
      case 'Prepared':
        this.#tell({ type: 'prepared', epoch: message.epoch });
        return true;
      case 'Running':
        this.#tell({ type: 'running', epoch: message.epoch });
        return true;
      case 'Refused': {
        const text = `the destination refused the commit: ${message.text.replace(/\p{Cc}/gu, ' ')}`;
        const error = new GodwitError('commit-refused', text, { fromPeer: true });
        this.#tell({ type: 'refused', epoch: message.epoch, error });
        return true;
      }
      case 'Closed':
        this.#tell({ type: 'closed', epoch: message.epoch });
        return true;
      case 'Recovered':
        this.#tell({ type: 'recovered', epoch: message.epoch, state: message.state });
        return true;
      default:
        return false;
    }
  }

  /** The suspension that the guest came out of here, if it did. */
  async suspension(): Promise<GuestSuspension | undefined> {
    return (await this.here()).suspension();
  }

  /** What fails while the destination is answered aborts as long as nothing is promised. */
  #tell(event: SourceEvent): void {
    this.dispatch(event).catch((thrown) => {
      const error = asGodwitError(thrown);
      this.#options.log('error', error.message);
      if (this.state.name === 'suspended') this.#tell({ type: 'abort', error });
    });
  }

  protected override async perform(act: Exclude<Act, { type: 'say' }>): Promise<void> {
    switch (act.type) {
      case 'suspend-guest': {
        const state = await (await this.here()).suspend(this.#options.onSuspend);
        if (state === 'paused' || state === 'migrated') return;
        throw stopped(state);
      }
      case 'seal-guest':
        this.#seal = await (await this.here()).seal();
        return this.#tell({ type: 'sealed', late: this.#options.late?.() });
      case 'hang-up':
        return this.hangUp(act.error);
      case 'send-recovered':
        throw new Error('the source is not asked to recover');
    }
  }

  protected override alsoWritten() {
    return { seal: this.#seal };
  }

  protected override held({ name }: SourceState, standing: Standing): void {
    if (name === 'aborted' && standing === 'gone')
      this.#options.log('error', 'the guest is gone from this host');
    if (name === 'aborted' && this.runState !== undefined) {
      this.happened('postResume');
      this.#options.onResume?.();
    }
    if (name === 'released') this.happened('postRelease');
  }

  /** Its definition goes when the destination has its own: its last word says so. */
  protected override whereabouts({ name, told }: SourceState) {
    if (name !== 'released') return undefined;
    return told ? 'gone' : 'unsettled';
  }

  protected override saying({ name, withdrawn }: SourceState): string {
    if (name === 'committed') return withdrawn ? 'withdraw' : 'commit';
    return name;
  }

  protected override say(state: SourceState, error: GodwitError | undefined): void {
    const { name, epoch, withdrawn } = state;
    switch (name) {
      case 'committed': {
        if (withdrawn) return this.speak((voice) => voice.send('Withdraw', { epoch }));
        const late = this.#options.beforeCommit?.();
        if (late) return this.#tell({ type: 'withdraw', error: late });
        return this.speak((voice) => voice.send('Commit', { epoch, seal: this.#seal }));
      }
      case 'aborted': {
        const { code, message } = error ?? interrupted();
        const text = wordsOf({ message } as GodwitError);
        return this.speak((voice) => voice.send('Aborted', { epoch, code, text }));
      }
      case 'released':
        return this.speak((voice) => voice.send('Released', { epoch }));
    }
  }
}

/** The guest has always run here. */
const SOURCE_HAS_RUN: readonly SourceStateName[] = [
  ...(['precopy', 'suspended', 'committed', 'aborted'] as const),
  ...(['released', 'superseded', 'ended'] as const),
];

/** What a destination is told that asks later. */
function interrupted(): GodwitError {
  return new GodwitError('cancelled', 'the migration has ended: the guest runs on at its source');
}

function stopped(state: RunState): GodwitError {
  const text = `the guest ${RUN_STATE_WORDS[state]}: it stays as it is`;
  return new GodwitError('guest-stopped', text);
}
