import { asGodwitError, GodwitError } from '../errors.ts';
import { DestinationHandover } from '../ownership/destination-handover.ts';
import type { DestinationStateName } from '../ownership/destination-machine.ts';
import type { JournalEntry } from '../ownership/journal/journal.ts';
import { SourceHandover } from '../ownership/source-handover.ts';
import type { SourceStateName } from '../ownership/source-machine.ts';
import { endInterrupted } from '../report/ledger.ts';
import type { Outcome } from '../report/records.ts';
import { parseAddress } from '../wire/address.ts';
import type { Connection } from '../wire/connection.ts';
import type { MigrationContext } from './context.ts';
import { Facts } from './facts.ts';
import type { MigrationView } from './view.ts';

type AnyHandover = SourceHandover | DestinationHandover;

/** A migration that an earlier run of the agent left open, as the journal has it. */
abstract class Recovered<Handover extends AnyHandover> {
  abstract readonly handover: Handover;
  protected readonly entry: JournalEntry;
  protected readonly context: MigrationContext;
  protected readonly facts: Facts;

  constructor(role: MigrationView['role'], entry: JournalEntry, context: MigrationContext) {
    const { migration: id, guest, peer, time: begunAt } = entry;
    const { onChange } = context;
    this.entry = entry;
    this.context = context;
    this.facts = new Facts({ id, role, guest, peer, begunAt, onChange });
    const outcome = OUTCOMES[entry.state];
    if (outcome === undefined) return;
    const { code, text } = entry;
    const error = code === '' ? undefined : new GodwitError(code as GodwitError['code'], text);
    this.facts.ended(outcome, error);
  }

  get id(): string {
    return this.entry.migration;
  }

  get guestName(): string {
    return this.entry.guest;
  }

  get secret(): Uint8Array {
    return this.entry.secret;
  }

  get peer(): string {
    return this.entry.peer;
  }

  view(): MigrationView {
    return this.facts.view();
  }

  /** Undoes or repeats on this host what the journal says is open. */
  async restart(): Promise<void> {
    this.context.log('info', `found in the journal, ${this.entry.state}: recovering`);
    const text = 'the agent was interrupted in the middle; the guest stays at its source';
    const error = new GodwitError('interrupted', text);
    this.changed();
    await this.handover.dispatch({ type: 'restart', error });
  }

  cancel(): void {
    throw new GodwitError('too-late', 'this migration is being recovered; see resolve');
  }

  /** What both sides' handovers are made with. */
  protected common() {
    const { journal, tenure, attach, definitionOf, hook, log } = this.context;
    const { handle } = this.entry;
    return {
      journal,
      tenure,
      attach: async () => (handle === '' ? ('gone' as const) : attach(handle)),
      definition: () => (handle === '' ? undefined : definitionOf(handle)),
      hook,
      log,
      onReport: (moved: boolean, error: GodwitError | undefined) => this.report(moved, error),
      onChange: () => this.changed(),
    };
  }

  protected report(moved: boolean, error: GodwitError | undefined): void {
    const outcome: Outcome = moved ? 'completed' : 'failed';
    this.facts.ended(outcome, error);
    const message = error?.message ?? 'the guest runs at its destination';
    this.context.log('info', `${outcome}: ${message}`);
  }

  protected changed(): void {
    this.facts.stands(this.handover);
    if (this.handover.state.name === 'ended') this.facts.end(true);
  }
}

/** How a migration went whose record is in that state; in all others it is not known yet. */
const OUTCOMES: Readonly<Record<string, Outcome>> = {
  released: 'completed',
  aborted: 'failed',
  running: 'completed',
  refused: 'failed',
  discarded: 'failed',
};

/** One that this host was sending. */
export class RecoveredDeparture extends Recovered<SourceHandover> {
  override readonly handover: SourceHandover;
  readonly host: string;
  readonly port: number;
  readonly #ledgerFile: string;

  constructor(entry: JournalEntry, context: MigrationContext, ledgerFile: string) {
    super('send', entry, context);
    const { host, port } = parseAddress(entry.peer);
    this.host = host;
    this.port = port;
    this.#ledgerFile = ledgerFile;
    const state = entry.state as SourceStateName;
    this.handover = new SourceHandover({ ...this.common(), entry: { ...entry, state } });
  }

  /** The destination cannot be asked for that reason. */
  waiting(reason: GodwitError | undefined): void {
    const what = `${this.peer} to say how the handover ended`;
    this.facts.waits(reason && `${what}: ${reason.message}`);
  }

  /** Nothing more is asked of the destination for the time being. */
  close(): void {
    this.handover.letGo();
    this.facts.waits(undefined);
  }

  protected override report(moved: boolean, error: GodwitError | undefined): void {
    super.report(moved, error);
    const { outcome = 'failed', message = 'the guest runs at its destination' } = this.view();
    endInterrupted(this.#ledgerFile, { outcome, code: error?.code, message }).catch((thrown) => {
      this.context.log('warn', asGodwitError(thrown).message);
    });
  }
}

/** One that this host was receiving. */
export class RecoveredArrival extends Recovered<DestinationHandover> {
  override readonly handover: DestinationHandover;
  #control: Connection | undefined;

  constructor(entry: JournalEntry, context: MigrationContext) {
    super('receive', entry, context);
    const state = entry.state as DestinationStateName;
    this.handover = new DestinationHandover({ ...this.common(), entry: { ...entry, state } });
  }

  /** The sender finishes the handover on this connection. */
  recover(control: Connection): void {
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
  leave(): void {
    this.#control?.close();
  }

  protected override changed(): void {
    this.facts.waits(this.#waitsFor);
    super.changed();
  }

  get #waitsFor(): string | undefined {
    const { name } = this.handover.state;
    // One that was refused is over here: a source that asks is told so, and nobody waits for it.
    if (name === 'ended' || name === 'superseded' || name === 'refused') return undefined;
    return `the source, which has to connect again (${name} here)`;
  }
}
