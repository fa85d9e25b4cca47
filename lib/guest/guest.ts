import type { AnyTask } from '../crew/crew.ts';
import type { Region, RegionFile } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';
import type { StateSpool } from '../memory/state-spool.ts';
import type { RecallPlace } from './recall/recall-protocol.ts';
import type { RunState } from './run-state.ts';

/** What both sides must agree on about a guest. */
export interface GuestDescription {
  readonly name: string;
  /** At its destination, where that is another one. */
  readonly destName?: string | undefined;
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
 * One side's copy of a guest: what the handover does to it, also after the agent was restarted. What
 * a method rejects with says nothing about the copy, unless its comment says so; codes are
 * `hypervisor-failed`, `guest-died`, `not-seen`.
 */
export interface GuestCopy {
  /** Finds the copy again after a restart of the agent, with whatever options; opaque, see `attach`. */
  readonly handle: string;
  /** Name and version, for people; undefined where its hypervisor does not say. */
  readonly hypervisorVersion?: string | undefined;
  /** What it does now, as its hypervisor says. */
  state(): Promise<RunState>;
  /**
   * Resolves when no vCPU executes and no write is outstanding, with the state it stands in: `paused`
   * or `migrated` when this has stopped it, else the reason of its own that came first. Harmless when
   * it stands. Calls `onStop` when the guest stops: just before, or as soon as it is known, with how long
   * ago that was, ms.
   */
  suspend(onStop?: (agoMs: number) => void): Promise<RunState>;
  /**
   * From here on the suspended copy stays so until `resume`, even when this agent dies: a hypervisor
   * that undoes a broken migration by itself is told that this one is through.
   * @returns what the destination needs of it beside the device state: Commit and the journal carry it
   */
  seal(): Promise<Uint8Array>;
  /**
   * Makes the guest run here when it is `paused` or `migrated`; in any other state it is left as it is,
   * and so is a source's guest that was not stopped by `suspend` but by somebody else. Resolves when that is done, with the state seen then: a reason of its own, such as `io-error`,
   * means that it *has* run, or had before. Rejects with `not-started` only when it was refused and
   * has executed nothing for it; any other rejection leaves open whether it runs.
   */
  resume(): Promise<RunState>;
  /**
   * Whether nothing that the guest writes outlives it: no disk that another copy of it may have written
   * to, so that this copy's memory is all there is. Where it cannot be told, it is not so.
   */
  memoryOnly?(): Promise<boolean>;
  /** The suspension that the guest has last come out of; waits for its first heartbeat here. */
  suspension(): Promise<GuestSuspension | undefined>;
  /**
   * Ends this copy and frees its memory, whether its hypervisor listens or not; harmless when it is
   * gone. Resolves when it is proved gone: its process, by pid and start time, has ended.
   */
  destroy(): Promise<void>;
  /** Lets go of the hypervisor and leaves the copy as it is; may be called more than once. */
  close(): void;
}

/**
 * What a migration needs of the guest on its source. Nothing here retries; `close` may be called
 * at any time and is the only cleanup.
 */
export type SourceGuest = ReadableGuest | PushingGuest;

/** How much of disks is copied, bytes; `total` grows with what is written meanwhile. */
export interface DiskProgress {
  readonly names: readonly string[];
  readonly copied: number;
  readonly total: number;
}

/** Disks that go with a guest: its hypervisor copies them to its destination's, over a connection of ours. */
export interface CopiedDisks {
  /** The Unix socket that its hypervisor takes for its destination's. */
  readonly socket: string;
  /** What they hold at the source, bytes. */
  readonly bytes: number;
  /**
   * Begins, with `socket` being listened on. Resolves when they are as here; they are kept so from then
   * on, until the guest is suspended and its device state is saved.
   */
  copy(): Promise<void>;
  /** Called when the copies are wanted no more: whoever has `socket` ends what is connected there. */
  onEnd(listener: () => void): void;
  progress(): Promise<DiskProgress>;
}

interface AnySourceGuest extends GuestCopy {
  readonly description: GuestDescription;
  /** To be copied before anything is done with its pages; undefined: none are. */
  readonly disks?: CopiedDisks | undefined;
  /** Of its device state, as its hypervisor knows it before it is saved; undefined where it does not. */
  readonly deviceStateBytes: number | undefined;
  /** By which another thread can make it run again here while it is suspended. */
  readonly recallPlace: RecallPlace;
  /** How it is to arrive: `paused` when somebody else has paused it, before or in the middle. */
  readonly arrives: 'running' | 'paused';
  /** Where its device state is to go: told before it is suspended, and before pages are pushed. */
  saveInto(spool: StateSpool): Promise<void>;
  /**
   * Only while suspended. The state grows in the spool as it is saved, which ends it; resolves to its
   * bytes then. Rejects with `guest-stopped` when it shows that the guest did not stop for the
   * migration but for somebody or something else, a moment before.
   */
  saveDeviceState(): Promise<number>;
  /**
   * Its memory is in files that can outlive its process: from here on `destroy` hands them over once
   * that has ended, instead of removing them. Missing where its memory is gone with it.
   * @param keep takes the files over, whatever it makes of them; never throws
   */
  keepMemory?(keep: (memory: readonly RegionFile[]) => void): void;
  /** Called when the guest stops without having been told to by `suspend`, with the state it stands in. */
  onStopped(listener: (state: RunState) => void): void;
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
  /** What reads its stream: the lanes run beside it. */
  readonly ingest: AnyTask;
  /** Lets the hypervisor push: chunk c goes into ring c mod their number. */
  startPushing(rings: readonly SharedArrayBuffer[]): Promise<void>;
  /** Passes begun so far, and the pages that the latest set out to send. */
  readonly pass: { readonly number: number; readonly dirtyPages: number };
  /** Called when another pass begins. */
  onPass(listener: () => void): void;
  /**
   * Of a hypervisor that suspends the guest when it sees fit, and can neither be told to nor kept from it:
   * whether the guest is known to stand, and how long it has stood or may have, ms; undefined: it runs.
   * One that only makes its own rounds `asks` when they are over, and waits with the suspension; undefined:
   * it does not ask.
   */
  readonly ownPace?: {
    readonly stands: boolean;
    readonly standsMs: number | undefined;
    readonly asks?: boolean | undefined;
  };
  /** Called when the hypervisor begins the cutover without being told to (QEMU before 8.1, Xen). */
  onOwnSuspension(listener: () => void): void;
  /** Keeps the hypervisor from ending the pass that has begun, as far as it can be, until `goOn`. */
  hold(): Promise<void>;
  /** Nothing is wanted for a while: the hypervisor all but stands still, until `goOn`. */
  rest(): Promise<void>;
  /**
   * Lets it go on. `carefully`: the cutover is not wanted, so that the pass takes its time at its end,
   * for not to be the last one, and `rest` follows.
   */
  goOn(carefully: boolean): Promise<void>;
  /** Its pace at the moment is not the one it could have. */
  readonly slow: boolean;
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
  /** The names of its regions in which the pages of a kept copy stand. */
  readonly kept?: readonly string[];
  /** The Unix socket on which its hypervisor waits for the content of disks; undefined: none are copied. */
  readonly disksSocket?: string | undefined;
  /**
   * Pages have arrived in `memory`; for a hypervisor that does not see that memory by itself.
   * Resolves when it has them. One that arrives again later is told again.
   */
  pagesArrived?(pages: PageSet): Promise<void>;
  /**
   * After all memory is in place; the guest stays paused. The state may still be growing. Rejects with
   * `cancelled` when the spool is closed before all of it is there.
   */
  loadDeviceState(spool: StateSpool): Promise<void>;
  onDeath(listener: (error: Error) => void): void;
}
