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

/** Moments of a migration at which a command of the operator's own may run. */
export type Moment = 'preSuspend' | 'postResume' | 'postRelease';

/**
 * One side's copy of a guest: what the handover does to it, also after the agent was restarted.
 * Methods reject with a GodwitError (`hypervisor-failed`, `guest-died`).
 */
export interface GuestCopy {
  /** Finds the copy again after a restart of the agent; opaque, see `attach`. */
  readonly handle: string;
  /**
   * Resolves when no vCPU executes and no write is outstanding; harmless when none does. Calls
   * `onStop` when the guest stops: just before, or as soon as it is known.
   */
  suspend(onStop?: () => void): Promise<void>;
  /**
   * From here on the suspended copy stays so until `resume`, even when this agent dies: a hypervisor
   * that undoes a broken migration by itself is told that this one is through.
   */
  seal(): Promise<void>;
  /** Makes the guest run here; harmless when it runs already. */
  resume(): Promise<void>;
  /** The suspension that the guest has last come out of; waits for its first heartbeat here. */
  suspension(): Promise<GuestSuspension | undefined>;
  /** Ends this copy and frees its memory; harmless when it is gone. */
  destroy(): Promise<void>;
  /** Lets go of the hypervisor and leaves the copy as it is; may be called more than once. */
  close(): void;
}

/**
 * What a migration needs of the guest on its source. Nothing here retries; `close` may be called
 * at any time and is the only cleanup.
 */
export type SourceGuest = ReadableGuest | PushingGuest;

interface AnySourceGuest extends GuestCopy {
  readonly description: GuestDescription;
  /** Only while suspended. */
  saveDeviceState(): Promise<Uint8Array>;
  /** Called once when the hypervisor goes away by itself. */
  onDeath(listener: (error: Error) => void): void;
}

/** A guest whose memory and dirty log can be read at will. */
export interface ReadableGuest extends AnySourceGuest {
  readonly pages: 'read';
  /** Where the sender's workers read pages. */
  readonly memory: readonly RegionFile[];
  /** Begins tracking writes with a clean log. */
  startDirtyLog(): Promise<void>;
  /** Harvests and clears the dirty log in one step, adding what it held to `into`. */
  syncDirtyLog(into: PageSet): Promise<void>;
  /** Stops tracking; harmless when it is not on. */
  stopDirtyLog(): Promise<void>;
}

/** A guest whose hypervisor makes the passes over its memory itself, and pushes pages at us. */
export interface PushingGuest extends AnySourceGuest {
  readonly pages: 'pushed';
  /** Lets the hypervisor push: chunk c goes into ring c mod their number. */
  startPushing(rings: readonly SharedArrayBuffer[]): Promise<void>;
  /** Passes begun so far, and the pages that the latest set out to send. */
  readonly pass: { readonly number: number; readonly dirtyPages: number };
  /** Called when another pass begins. */
  onPass(listener: () => void): void;
  /** Called when the hypervisor suspends the guest without being told to. */
  onOwnSuspension(listener: () => void): void;
  /** Keeps the hypervisor from ending the pass that has begun, as far as it can be, until `goOn`. */
  hold(): Promise<void>;
  goOn(): Promise<void>;
  /** Pages that are still to be pushed, as the hypervisor counts them. */
  pendingPages(): Promise<number>;
  /** Puts what was pushed so far into the rings, as part of that round; what follows is the next's. */
  publish(round: number): Promise<Published>;
  /** Resolves when the last page of a suspended guest was pushed. */
  pushedAll(): Promise<void>;
  /** Ends the pushing; harmless when it has ended. */
  stopPushing(): Promise<void>;
}

export interface Published {
  /** Chunks in each ring, since the beginning. */
  readonly chunks: readonly number[];
  /** The pages of the round. */
  readonly pages: PageSet;
}

/** What a migration needs of the guest on its destination: a copy that never runs unless resumed. */
export interface DestinationGuest extends GuestCopy {
  /** Whether `memory` is the guest's own, or is handed to the hypervisor round by round. */
  readonly placement: 'direct' | 'stream';
  /** Where the receiver's workers write pages. */
  readonly memory: readonly RegionFile[];
  /**
   * Pages have arrived in `memory`; for a hypervisor that does not see that memory by itself.
   * Resolves when it has them. One that arrives again later is told again.
   */
  pagesArrived?(pages: PageSet): Promise<void>;
  /** After all memory is in place; the guest stays paused. */
  loadDeviceState(state: Uint8Array): Promise<void>;
  onDeath(listener: (error: Error) => void): void;
}
