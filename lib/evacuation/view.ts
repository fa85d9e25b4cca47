import type { MigrationRequest } from '../migration/view.ts';
import type { Outcome } from '../report/records.ts';

/** In which order guests leave a host. */
export const ORDERS = ['smallest', 'steadiest', 'name'] as const;
export type Order = (typeof ORDERS)[number];

/** What `POST /evacuation` takes. */
export interface EvacuationRequest {
  /** `host:port`, in the order in which they are asked. */
  readonly destinations: readonly string[];
  /** Undefined: all of this host that can be moved. */
  readonly guests?: readonly string[];
  /** Guests that are moved at once. */
  readonly parallel: number;
  /** What all moves may have of the link together, bytes per second. */
  readonly bandwidth?: number;
  readonly order: Order;
  /** A guest is tried again with the suspension limit that would have been enough, up to this one, ms. */
  readonly retryUpToMs?: number;
  /** How each of the moves is asked for. */
  readonly move: MoveTerms;
  /** Who asks for it: printable, for logs and ledgers. */
  readonly by?: string;
}

/** Of one move everything but what the evacuation decides. */
export type MoveTerms = Omit<
  MigrationRequest,
  'guest' | 'host' | 'port' | 'bandwidth' | 'by' | 'destXml' | 'destName'
>;

/** A destination that does not take a guest is not asked again for it. */
export interface Refusal {
  readonly destination: string;
  readonly code: string;
  readonly message: string;
}

/** How it went with a guest. Times are ms. */
export interface GuestEnd {
  /** ISO 8601. */
  readonly at: string;
  readonly outcome: Outcome;
  readonly code?: string | undefined;
  readonly message?: string | undefined;
  /** Of its last move: how long it took, and what the guest saw of it beside the enforced limit. */
  readonly ms?: number | undefined;
  readonly suspensionMs?: number | undefined;
  readonly limitMs?: number | undefined;
  readonly wireBytes?: number | undefined;
}

/** A guest that is to leave. */
export interface Leaving {
  readonly name: string;
  /** Undefined when its hypervisor could not be asked. */
  readonly memoryBytes?: number | undefined;
  /** Moves that were begun. */
  readonly tries: number;
  /** Failures that may have been of the moment, and those of them that were a destination's. */
  readonly troubles: number;
  readonly detours: number;
  readonly refused: readonly Refusal[];
  /** Suspension limits that it was tried again with, ms. */
  readonly raisedMs: readonly number[];
  /** Its last move, and where that went. */
  readonly migration?: string | undefined;
  readonly destination?: string | undefined;
  /** Why it is not on its way. */
  readonly waitsFor?: string | undefined;
  /** Undefined while it waits or is on its way. */
  readonly end?: GuestEnd | undefined;
}

/** A guest of the host that was not asked to leave. */
export interface LeftOut {
  readonly name: string;
  readonly why: string;
}

/** An evacuation as it is kept: plain JSON. */
export interface EvacuationRecord extends EvacuationRequest {
  readonly id: string;
  /** Name of the host that is left. */
  readonly source: string;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly endedAt?: string | undefined;
  /** Somebody has ended it: nothing more is begun. */
  readonly cancelled: boolean;
  /** In the order in which they leave. */
  readonly leaving: readonly Leaving[];
  readonly leftOut: readonly LeftOut[];
}

/** As the control socket shows it. */
export interface EvacuationView extends EvacuationRecord {
  /** Guests that are on their way. */
  readonly moving: readonly string[];
  /** The worst of its guests' outcomes; undefined while it goes on. */
  readonly outcome?: Outcome | undefined;
}

/** What an evacuation would begin with; nothing is moved. */
export interface EvacuationPlan {
  readonly leaving: readonly PlannedGuest[];
  readonly leftOut: readonly LeftOut[];
}

export interface PlannedGuest {
  readonly name: string;
  readonly memoryBytes?: number | undefined;
  /** The first one that takes it, were it the only guest; undefined when none does. */
  readonly destination?: string | undefined;
  readonly refused: readonly Refusal[];
  /** What keeps it here, whatever the destination. */
  readonly why?: string | undefined;
}
