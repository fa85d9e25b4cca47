import type { Choice, Dilemma } from '../handover/resolve.ts';
import type { GuestView, LimitsPatch, MigrationRequest, MigrationView } from './view.ts';

/** What the control server asks of a daemon. Unknown ids are GodwitError `unknown-migration`. */
export interface AgentBackend {
  readonly role: 'send' | 'receive';
  list(): MigrationView[];
  /** By id or by a prefix of it that is unique. */
  show(id: string): MigrationView;
  cancel(id: string): MigrationView;
  /** What a person could decide about its handover. */
  dilemma(id: string): Dilemma;
  resolve(id: string, choice: Choice): Promise<MigrationView>;
  /** Calls back now, on changes (at most a few times a second) and a last time at the end. */
  watch(id: string, listener: (view: MigrationView) => void): () => void;
  /** Migrations ended since the daemon started, by outcome. */
  totals(): Readonly<Record<string, number>>;
}

/** What only a sending daemon can do. */
export interface SenderBackend extends AgentBackend {
  start(request: MigrationRequest): Promise<MigrationView>;
  change(id: string, patch: LimitsPatch): MigrationView;
  cutover(id: string): MigrationView;
  guests(): Promise<GuestView[]>;
  /** Path of the ledger of a migration, running or ended; also of earlier runs of the daemon. */
  ledgerFile(id: string): string;
}
