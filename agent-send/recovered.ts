import { parseAddress } from '../lib/control/address.ts';
import { bareView, type MigrationView } from '../lib/control/view.ts';
import { asGodwitError, type ErrorCode, GodwitError } from '../lib/errors.ts';
import type { GuestCopy, Moment } from '../lib/guest/guest.ts';
import type { SourceStateName } from '../lib/handover/source-machine.ts';
import type { Journal, JournalEntry } from '../lib/journal/journal.ts';
import { endInterrupted } from '../lib/report/ledger.ts';
import type { Outcome } from '../lib/report/records.ts';
import { SourceHandover } from './handover.ts';

export interface RecoveredContext {
  readonly journal: Journal;
  readonly attach: (name: string, handle: string) => Promise<GuestCopy | undefined>;
  readonly hook: (moment: Moment, migration: RecoveredMigration) => Promise<void>;
  readonly ledgerFile: (id: string) => string;
  readonly onChange: (migration: RecoveredMigration) => void;
  readonly log: (
    level: 'info' | 'warn' | 'error',
    text: string,
    migration: RecoveredMigration,
  ) => void;
}

/** A migration that an earlier run of the agent left open, as the journal has it. */
export class RecoveredMigration {
  readonly id: string;
  readonly guestName: string;
  readonly secret: Uint8Array;
  readonly host: string;
  readonly port: number;
  readonly handover: SourceHandover;
  readonly #entry: JournalEntry;
  readonly #context: RecoveredContext;
  #guest: GuestCopy | undefined;
  #waitsFor: string | undefined;
  #outcome: Outcome | undefined;
  #error: GodwitError | undefined;

  constructor(entry: JournalEntry, context: RecoveredContext) {
    this.#entry = entry;
    this.#context = context;
    this.id = entry.migration;
    this.guestName = entry.guest;
    this.secret = entry.secret;
    if (entry.state === 'released') this.#outcome = 'completed';
    if (entry.state === 'aborted') this.#outcome = 'failed';
    if (entry.code !== '') this.#error = new GodwitError(entry.code as ErrorCode, entry.text);
    const { host, port } = parseAddress(entry.peer);
    this.host = host;
    this.port = port;
    this.handover = new SourceHandover({
      migration: this.id,
      start: { name: entry.state as SourceStateName, epoch: entry.epoch },
      journal: context.journal,
      guest: async () => {
        this.#guest ??= await context.attach(entry.guest, entry.handle);
        return this.#guest;
      },
      hook: (moment) => context.hook(moment, this),
      onReport: (moved, error) => this.#report(moved, error),
      onChange: () => context.onChange(this),
      log: (level, text) => context.log(level, text, this),
    });
  }

  /** Undoes or repeats on this host what the journal says is open. */
  async restart(): Promise<void> {
    const { state } = this.#entry;
    this.#context.log('info', `found in the journal, ${state}: recovering`, this);
    const text = 'agent-send was interrupted in the middle; the guest runs on at its source';
    const error = new GodwitError('interrupted', text);
    await this.handover.dispatch({ type: 'restart', error });
  }

  waiting(reason: GodwitError | undefined): void {
    const what = `${this.#entry.peer} to say how the handover ended`;
    this.#waitsFor = reason && `${what}: ${reason.message}`;
    this.#context.onChange(this);
  }

  cancel(): void {
    throw new GodwitError('too-late', 'this migration is being recovered; see resolve');
  }

  /** The handover needs the guest no more, or not for the time being. */
  close(): void {
    this.#guest?.close();
    this.#guest = undefined;
    this.#waitsFor = undefined;
    this.#context.onChange(this);
  }

  #report(moved: boolean, error: GodwitError | undefined): void {
    this.#outcome = moved ? 'completed' : 'failed';
    this.#error = error;
    const message = error?.message ?? 'the guest runs at its destination';
    this.#context.log('info', `${this.#outcome}: ${message}`, this);
    const end = { outcome: this.#outcome, code: error?.code, message };
    endInterrupted(this.#context.ledgerFile(this.id), end).catch((thrown) => {
      this.#context.log('warn', asGodwitError(thrown).message, this);
    });
  }

  view(): MigrationView {
    const { guest, peer, time } = this.#entry;
    const over = this.handover.state.name === 'ended';
    const phase = over ? 'ended' : 'recovery';
    const startedAt = new Date(time).toISOString();
    return {
      ...bareView({ id: this.id, role: 'send', guest, peer, phase, startedAt }),
      waitsFor: this.#waitsFor,
      outcome: this.#outcome,
      code: this.#error?.code,
      message: this.#error?.message,
    };
  }
}
