import type { Finding } from '../finding.ts';
import type { Turn } from '../migration/source/basis.ts';
import type { GuestView, MigrationRequest, MigrationView } from '../migration/view.ts';
import type { GuestProfile } from '../precopy/profile.ts';
import type { Caps } from '../precopy/suspension-rate.ts';
import type { PastMigration } from '../report/history.ts';

/** What an evacuation needs of its agent. */
export interface Site {
  guests(): Promise<readonly GuestView[]>;
  /** The newest profile of a guest that is kept; undefined when there is none, or none can be read. */
  profile(guest: string): GuestProfile | undefined;
  /**
   * What stands in the way of a move; findings of the destination are about `destination …`.
   * @throws GodwitError unknown-guest when it is not on this host
   */
  inTheWay(request: MigrationRequest): Promise<readonly Finding[]>;
  /** @throws GodwitError guest-busy, … */
  begin(request: MigrationRequest, turn: Turn): Promise<MigrationView>;
  /** The migration of that guest of which nobody knows yet how it ends, whoever has begun it. */
  open(guest: string): MigrationView | undefined;
  /** The newest one of that guest, as its ledger has it; its outcome as soon as anybody knows it. */
  past(guest: string): Promise<PastMigration | undefined>;
  /** Calls back now, on changes and at the end. Returns the way out. */
  watch(id: string, listener: (view: MigrationView) => void): () => void;
  /** @throws GodwitError too-late */
  cancel(id: string): void;
  /** Changes what a migration may send, in whatever phase it is. */
  steer(id: string, caps: Required<Caps>): void;
}
