import type { Crew } from '../crew/crew.ts';
import type { GuestCopy, Moment } from '../guest/guest.ts';
import type { Guests } from '../guest/guests.ts';
import type { DefinitionDuty } from '../guest/hypervisor.ts';
import { type LogLevel, log } from '../log.ts';
import type { Tenure } from '../ownership/guest-record.ts';
import type { Journal } from '../ownership/journal/journal.ts';

/** What a daemon lends to one migration. */
export interface MigrationContext {
  readonly journal: Journal;
  /** The right to act on the guest's copy here. */
  readonly tenure: Tenure;
  /** The guest's copy here by its handle. @throws GodwitError not-seen */
  readonly attach: (handle: string) => Promise<GuestCopy | 'gone'>;
  /** As `Hypervisor.definitionOf`, of the copy with that handle. */
  readonly definitionOf: (handle: string) => DefinitionDuty | undefined;
  /** Runs what the operator wants done at that moment. */
  readonly hook: (moment: Moment) => Promise<void>;
  readonly onChange: () => void;
  readonly log: (level: LogLevel, text: string) => void;
}

/** What is known of a migration from its beginning. */
export interface Begun {
  readonly id: string;
  readonly side: 'source' | 'destination';
  readonly guest: string;
  readonly hypervisor: string;
  /** The other agent, `host:port`. */
  readonly peer: string;
  readonly tenure: Tenure;
}

/** What every migration is lent by an agent with that journal and those guests. */
export function contextOf(journal: Journal, guests: Guests, begun: Begun) {
  const { id: migration, side, guest, hypervisor, peer, tenure } = begun;
  const context: Omit<MigrationContext, 'onChange'> = {
    journal,
    tenure,
    attach: (handle) => guests.attach(hypervisor, handle),
    definitionOf: (handle) => guests.definitionOf(hypervisor, handle),
    hook: (moment) => guests.hook(hypervisor, moment, { guest, migration, side, peer }),
    log: (level, text) => log(level, text, `${migration} ${guest}`),
  };
  return context;
}

/** What a migration needs besides that is begun now. */
export interface LiveContext extends MigrationContext {
  /** The agent's workers. */
  readonly crew: Crew;
  /** A directory in memory: device states pass through it. */
  readonly ramDir: string;
  /** A peer that says nothing for so long is given up, ms. */
  readonly peerTimeoutMs: number;
  /** How long a lost connection may take to come back, ms; 0: it may not. */
  readonly reconnectTimeoutMs: number;
}
