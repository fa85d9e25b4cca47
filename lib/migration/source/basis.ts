import type { SourceGuest } from '../../guest/guest.ts';
import type { Recalls } from '../../guest/recall/recalls.ts';
import type { GuestLayout, RegionFile } from '../../memory/guest-layout.ts';
import type { SourceHandover } from '../../ownership/source-handover.ts';
import type { PageHash } from '../../pages/hash.ts';
import type { Subject } from '../../precopy/calibration.ts';
import type { GuestProfile } from '../../precopy/profile.ts';
import type { Steering } from '../../precopy/steering.ts';
import type { LedgerWriter } from '../../report/ledger.ts';
import type { Security } from '../../wire/credentials.ts';
import type { LiveContext } from '../context.ts';
import type { Experiences } from '../experiences.ts';
import type { Facts } from '../facts.ts';
import type { Releases } from '../releases.ts';
import type { MigrationRequest } from '../view.ts';
import type { Ending } from './ending.ts';
import type { MoveWatch } from './move-watch.ts';

/** The turn to be suspended, of one guest among others that share a link. */
export interface Turn {
  /** @returns whether the guest may be suspended now; then the turn is its own until it is given back */
  take(): boolean;
  giveBack(): void;
}

export interface SourceContext extends LiveContext {
  /** The guest's machine, as a look at it before the move has it. */
  readonly machine: string;
  /** Offered when the request does not say. */
  readonly lanes: number;
  readonly connectTimeoutMs: number;
  readonly security: Security;
  readonly ledger: (id: string) => LedgerWriter;
  readonly experiences: Experiences;
  /** The newest one of a guest that is kept here. @throws GodwitError ledger-invalid */
  readonly profile: (guest: string) => GuestProfile | undefined;
  readonly recalls: Recalls;
  /**
   * Takes over the files of a guest that has moved, once its process has ended, for its return from
   * the host that has shown to be `heir`; undefined: they go.
   */
  readonly keepMemory?: ((memory: readonly RegionFile[], heir: string) => void) | undefined;
  /** Undefined: nobody else wants it. */
  readonly turn?: Turn | undefined;
  /** Finishes the handover on connections of its own; resolves when nothing is open any more. */
  readonly settle: () => Promise<void>;
}

/** What a migration is made of from its beginning to its end. */
export interface Basis {
  readonly id: string;
  readonly request: MigrationRequest;
  readonly context: SourceContext;
  readonly steering: Steering;
  readonly facts: Facts;
  readonly handover: SourceHandover;
  readonly ending: Ending;
  /** What it is to whoever forecasts its suspension. */
  readonly subject: Subject;
  /** What it teaches. */
  readonly watch: MoveWatch;
}

/** What its phases have besides, while they run. */
export interface Course extends Basis {
  readonly guest: SourceGuest;
  readonly layout: GuestLayout;
  readonly hash: PageHash;
  readonly releases: Releases;
}
