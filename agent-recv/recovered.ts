import { bareView, type MigrationView } from '../lib/control/view.ts';
import { type ErrorCode, GodwitError } from '../lib/errors.ts';
import type { GuestCopy, Moment } from '../lib/guest/guest.ts';
import type { DestinationStateName } from '../lib/handover/destination-machine.ts';
import type { Journal, JournalEntry } from '../lib/journal/journal.ts';
import type { Outcome } from '../lib/report/records.ts';
import type { Channel } from '../lib/wire/channel.ts';
import { DestinationHandover } from './handover.ts';

export interface RecoveredContext {
  readonly journal: Journal;
  readonly attach: (name: string, handle: string) => Promise<GuestCopy | undefined>;
  readonly hook: (moment: Moment, arrival: RecoveredArrival) => Promise<void>;
  readonly onChange: (arrival: RecoveredArrival) => void;
  readonly log: (level: 'info' | 'warn' | 'error', text: string, arrival: RecoveredArrival) => void;
}

/** A migration that an earlier run of the agent left open, as the journal has it. */
export class RecoveredArrival {
  readonly id: string;
  readonly guestName: string;
  readonly secret: Uint8Array;
  readonly peer: string;
  readonly handover: DestinationHandover;
  readonly #entry: JournalEntry;
  readonly #context: RecoveredContext;
  #guest: GuestCopy | undefined;
  #control: Channel | undefined;
  #outcome: Outcome | undefined;
  #error: GodwitError | undefined;

  constructor(entry: JournalEntry, context: RecoveredContext) {
    this.#entry = entry;
    this.#context = context;
    this.id = entry.migration;
    this.guestName = entry.guest;
    this.secret = entry.secret;
    this.peer = entry.peer;
    if (entry.state === 'running') this.#outcome = 'completed';
    if (entry.state === 'refused') this.#outcome = 'failed';
    if (entry.code !== '') this.#error = new GodwitError(entry.code as ErrorCode, entry.text);
    this.handover = new DestinationHandover({
      migration: this.id,
      start: { name: entry.state as DestinationStateName, epoch: entry.epoch },
      journal: context.journal,
      guest: async () => {
        this.#guest ??= await context.attach(entry.guest, entry.handle);
        return this.#guest;
      },
      hook: (moment) => context.hook(moment, this),
      onReport: (moved, error) => {
        this.#outcome = moved ? 'completed' : 'failed';
        this.#error = error;
      },
      onChange: () => this.#changed(),
      log: (level, text) => context.log(level, text, this),
    });
  }

  /** Undoes or repeats on this host what the journal says is open. */
  async restart(): Promise<void> {
    const { state } = this.#entry;
    this.#context.log('info', `found in the journal, ${state}: recovering`, this);
    const text = 'agent-recv was interrupted in the middle; the guest stays at its source';
    await this.handover.dispatch({ type: 'restart', error: new GodwitError('interrupted', text) });
  }

  /** The sender finishes the handover on this connection. */
  recover(control: Channel): void {
    const old = this.#control;
    this.#control = control;
    this.handover.speakThrough(control);
    control.serve({
      onMessage: (received) => {
        if (this.handover.hear(received)) return;
        throw new GodwitError('bad-message', `${received.kind} has no place in a recovery`);
      },
      onClose: () => {
        if (control === this.#control) this.handover.speakThrough(undefined);
      },
    });
    old?.close();
  }

  /** Lets go of what is between the agents; the journal has it. */
  async leave(): Promise<void> {
    this.#control?.close();
    await this.handover.idle();
    this.#guest?.close();
    this.#guest = undefined;
  }

  cancel(): void {
    throw new GodwitError('too-late', 'this migration is being recovered; see resolve');
  }

  #changed(): void {
    this.#context.onChange(this);
    if (this.handover.state.name !== 'ended') return;
    void this.handover.idle().then(() => this.#guest?.close());
  }

  view(): MigrationView {
    const { guest, time } = this.#entry;
    const { name } = this.handover.state;
    const phase = name === 'ended' ? 'ended' : 'recovery';
    const startedAt = new Date(time).toISOString();
    return {
      ...bareView({ id: this.id, role: 'receive', guest, peer: this.peer, phase, startedAt }),
      waitsFor:
        phase === 'ended' ? undefined : `the source, which has to connect again (${name} here)`,
      outcome: this.#outcome,
      code: this.#error?.code,
      message: this.#error?.message,
    };
  }
}
