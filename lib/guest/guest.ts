import type { Region, RegionFile } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';

/** Guest names become part of file names and travel in GuestOffer (proto/WIRE.md has the same rule). */
const GUEST_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;
export const GUEST_NAME_RULE =
  'a guest name has 1 to 64 characters out of A-Z a-z 0-9 . _ - and does not start with . or -';

export function isGuestName(name: string): boolean {
  return GUEST_NAME.test(name);
}

/** What both sides must agree on about a guest. */
export interface GuestDescription {
  readonly name: string;
  readonly hypervisor: string;
  /** Opaque to the agents: equal text means that the device state fits. */
  readonly deviceModel: string;
  readonly regions: readonly Region[];
}

/** The guest's own view of its last suspension. */
export interface GuestSuspension {
  /** Milliseconds between its last heartbeat on the source and its first on the destination. */
  readonly ms: number;
  /** `monotonic` when both ends were on one host, else `realtime` (as good as the hosts' clocks). */
  readonly clock: 'monotonic' | 'realtime';
}

/**
 * What a migration needs of the guest on its source. Methods reject with a GodwitError
 * (`hypervisor-failed`, `guest-died`). Nothing here retries; `close` may be called at any time and
 * more than once, and is the only cleanup.
 */
export interface SourceGuest {
  readonly description: GuestDescription;
  /** Where the sender's workers read pages (a hypervisor that can be read at will). */
  readonly memory: readonly RegionFile[];
  /** Begins tracking writes with a clean log. */
  startDirtyLog(): Promise<void>;
  /** Harvests and clears the dirty log in one step, adding what it held to `into`. */
  syncDirtyLog(into: PageSet): Promise<void>;
  /** Stops tracking; harmless when it is not on. */
  stopDirtyLog(): Promise<void>;
  /** Resolves when no vCPU executes and no write is outstanding. */
  suspend(): Promise<void>;
  /** Only while suspended. */
  saveDeviceState(): Promise<Uint8Array>;
  /** Makes the guest run again here; harmless when it runs already. */
  resume(): Promise<void>;
  /** The suspension that this guest has last come out of. */
  suspension(): Promise<GuestSuspension | undefined>;
  /** Destroys this copy of the guest and frees its memory: only after the destination runs. */
  release(): Promise<void>;
  /** Called once when the hypervisor goes away by itself. */
  onDeath(listener: (error: Error) => void): void;
  /** Lets go of the hypervisor and leaves the guest as it is. */
  close(): void;
}

/** What a migration needs of the guest on its destination: a copy that never runs unless resumed. */
export interface DestinationGuest {
  /** Where the receiver's workers write pages. */
  readonly memory: readonly RegionFile[];
  /** After all memory is in place; the guest stays paused. */
  loadDeviceState(state: Uint8Array): Promise<void>;
  resume(): Promise<void>;
  /** The suspension that this guest has just come out of; waits for its first heartbeat. */
  suspension(): Promise<GuestSuspension | undefined>;
  /** Destroys the copy and frees its memory: only while it has never run. */
  discard(): Promise<void>;
  onDeath(listener: (error: Error) => void): void;
  close(): void;
}
