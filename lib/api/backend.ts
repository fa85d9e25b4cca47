import type { EvacuationPlan, EvacuationRequest, EvacuationView } from '../evacuation/view.ts';
import type { Profiling } from '../guest/profile.ts';
import type { CheckView } from '../migration/check/view.ts';
import type { GuestView, LimitsPatch, MigrationRequest, MigrationView } from '../migration/view.ts';
import type { Choice, Dilemma } from '../ownership/decision.ts';
import type { GuestProfile } from '../precopy/profile.ts';
import type { ForetoldRecord, TrackRecord } from '../precopy/track-record.ts';
import type { HistoryFilter, PastMigration } from '../report/history.ts';
import type { Figures } from './metrics.ts';

/** What the control server asks of a daemon. Unknown ids are GodwitError `unknown-migration`. */
export interface AgentBackend {
  readonly role: 'send' | 'receive';
  list(): MigrationView[];
  /** By id or by a prefix of it that is unique. */
  show(id: string): MigrationView;
  cancel(id: string): MigrationView;
  /** What a person could decide about its handover. */
  dilemma(id: string): Dilemma;
  /** @param by who decides: printable, for logs and the other host */
  resolve(id: string, choice: Choice, by: string): Promise<MigrationView>;
  /** Calls back now, on changes (at most a few times a second) and a last time at the end. */
  watch(id: string, listener: (view: MigrationView) => void): () => void;
  /** What it counts, for `/metrics`. */
  figures(): Figures;
}

/** What leaves a host, at most once at a time. */
export interface EvacuationBackend {
  /** The open one, or else the last. */
  view(): EvacuationView | undefined;
  /** @throws GodwitError evacuation-open, unknown-guest, … */
  begin(request: EvacuationRequest): Promise<EvacuationView>;
  /** What it would begin with; nothing is moved. */
  plan(request: EvacuationRequest): Promise<EvacuationPlan>;
  /** @throws GodwitError too-late */
  cancel(): Promise<EvacuationView>;
}

/** What only a sending daemon can do. */
export interface SenderBackend extends AgentBackend {
  start(request: MigrationRequest): Promise<MigrationView>;
  /** Whether that migration would be taken, and what it would be like; nothing is started. */
  check(request: MigrationRequest): Promise<CheckView>;
  change(id: string, patch: LimitsPatch): MigrationView;
  /** Now, if its forecast allows it or `force` says so. @throws GodwitError cutover-refused, too-late */
  cutover(id: string, force: boolean): MigrationView;
  readonly evacuations: EvacuationBackend;
  guests(): Promise<GuestView[]>;
  /** What the ledgers tell, the newest first. */
  history(filter: HistoryFilter): Promise<PastMigration[]>;
  /** How good forecasts have been: at the decision, and before moves. */
  trackRecords(): TrackRecord[];
  foretoldRecords(): ForetoldRecord[];
  /** Takes a profile of a guest and keeps it. @throws GodwitError unknown-guest, guest-busy, … */
  profile(guest: string, profiling: Profiling): Promise<GuestProfile>;
  /** Ends one that is being taken. @throws GodwitError too-late */
  endProfile(guest: string): void;
  /** The newest one that is kept. @throws GodwitError unknown-profile */
  newestProfile(guest: string): GuestProfile;
  /** Path of the ledger of a migration, running or ended; also of earlier runs of the daemon. */
  ledgerFile(id: string): string | Promise<string>;
}
