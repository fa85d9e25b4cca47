import type { Finding } from '../finding.ts';
import type {
  DestinationGuest,
  GuestCopy,
  GuestDescription,
  Moment,
  SourceGuest,
} from './guest.ts';
import type { Observation, Profiling } from './profile.ts';
import type { RunState } from './run-state.ts';

/** What a look at a guest shows. Looking starts nothing and changes nothing. */
export interface GuestLook {
  readonly name: string;
  readonly hypervisor: string;
  readonly state: RunState;
  readonly memoryBytes: number;
  /** Undefined where the hypervisor cannot be asked. */
  readonly deviceStateBytes?: number;
}

/** What can be said of a guest that was only looked at, to the host that might take it. */
export interface GuestOutline {
  readonly name: string;
  readonly hypervisor: string;
  /** The machine that its device state fits, in its hypervisor's words. */
  readonly machine: string;
  readonly memoryBytes: number;
  /** As `Guest.uuid`. */
  readonly uuid?: string;
  /** Of a domain of libvirt: its XML, as it would arrive. */
  readonly domain?: string | undefined;
}

/** Of disks that both hosts do not share: their whole content, or what is in their images alone and not in those below. */
export type StorageCopy = 'all' | 'inc';

/** How a domain of libvirt is to be at its destination, and what is kept of it here: as `virsh migrate` has it. */
export interface DomainTerms {
  /** In place of the XML that it has. */
  readonly destXml?: string;
  readonly destName?: string;
  /** Its destination defines it. */
  readonly persistent?: boolean;
  /** It is not defined here any more once it has moved. */
  readonly undefineSource?: boolean;
  /** Its disks go with it. */
  readonly copyStorage?: StorageCopy;
}

/** What a host keeps of a guest besides its copy: a definition that is to be made, or to go. */
export interface DefinitionDuty {
  /**
   * Where the guest is has been settled: on this host, or not on it. Harmless when it was done before.
   * @throws GodwitError not-seen, hypervisor-failed; it is to be tried again then
   */
  settle(where: 'here' | 'gone'): Promise<void>;
}

/** A guest that is on this host, looked at from outside. */
export interface Guest {
  readonly name: string;
  readonly hypervisor: string;
  /** By which it is the same guest under another name, with dashes; undefined where it has none. */
  readonly uuid?: string;
  /** @throws GodwitError not-seen when its hypervisor does not answer in time, unknown-guest */
  look(): Promise<GuestLook>;
  /** See `GuestOutline`. @throws as `look` */
  machine(): Promise<string>;
  /** As `GuestOutline.domain`. @throws as `look` */
  domain?(terms: DomainTerms): Promise<string>;
  /** What its disks hold that would go with it, bytes; 0: none would. @throws as `look` */
  diskBytes?(terms: DomainTerms): Promise<number>;
  /**
   * Begins to move it away; the caller closes what it gets.
   * @throws GodwitError guest-not-running for a state in which it cannot be moved, guest-busy,
   *   hypervisor-failed, not-seen
   */
  openSource(terms?: DomainTerms): Promise<SourceGuest>;
  /**
   * Watches for a while what it does to its memory, and moves nothing. When this settles, nothing in
   * its hypervisor watches any more; the caller sees to it that it is not moved before.
   * @throws GodwitError guest-not-running, guest-stopped, guest-died, guest-busy when its hypervisor
   *   moves or measures it for somebody else, hypervisor-failed, not-seen; what it is aborted with
   */
  profile(profiling: Profiling): Promise<Observation>;
}

/** What a hook is told about, in variables of its environment. */
export interface HookContext {
  readonly guest: string;
  readonly migration: string;
  readonly side: 'source' | 'destination';
  /** The other host, as the agent knows it. */
  readonly peer: string;
}

/** Files with memory of a guest that was here before, by the names of its regions. */
export type KeptFiles = ReadonlyMap<string, string>;

/** One kind of guests on this host. Every call has a time limit of its own. */
export interface Hypervisor {
  /** As GuestOffer names it. */
  readonly name: string;
  /**
   * One line for each guest there is, whatever state it is in; one that does not answer says so.
   * @param except are not asked and left out: a monitor that is held for a migration answers nobody else
   */
  list(except?: ReadonlySet<string>): Promise<readonly (GuestLook | GuestTrouble)[]>;
  /** Of the guests there are, whatever can be said about them. */
  names(): Promise<readonly string[]>;
  /** @throws GodwitError unknown-guest, definition-invalid */
  find(name: string): Promise<Guest>;
  /**
   * Makes room for a guest that arrives: a copy that waits for its memory.
   * @param known called with a handle before anything is made or started, and again when the handle
   *   is complete: whatever is there then is found by it (`attach`). What it rejects with ends the arrival.
   * @param kept files with pages of the guest from an earlier time: those that it makes the guest's
   *   memory are moved away, and named by the copy (`kept`)
   * @throws GodwitError guest-exists, memory-insufficient, ram-file-failed, definition-invalid,
   *   hypervisor-failed; what it had made is gone then
   */
  arrive(
    description: GuestDescription,
    known: (handle: string) => Promise<void>,
    kept?: KeptFiles,
  ): Promise<DestinationGuest>;
  /** A guest that is described as one that was looked at. @throws GodwitError bad-message */
  outlineOf(description: GuestDescription): GuestOutline;
  /**
   * Whether `arrive` would make room for such a guest now, as far as looking shows: nothing is made,
   * started or removed.
   * @param verify its memory is to be read again here
   * @param spare bytes of RAM files that would be given up for it
   */
  canTake(guest: GuestOutline, verify: boolean, spare: number): Promise<readonly Finding[]>;
  /**
   * The copy with this handle. `gone` is proved: the process has ended (pid, start time and boot of
   * the host), and nothing is left of it.
   * @throws GodwitError not-seen when neither can be said; journal-invalid for what is no handle
   */
  attach(handle: string): Promise<GuestCopy | 'gone'>;
  /** What is to become of a definition once it is settled where the copy with this handle is; mostly nothing. */
  definitionOf?(handle: string): DefinitionDuty | undefined;
  /** Runs what the operator wants done at that moment. @throws GodwitError hook-failed, definition-invalid */
  hook(moment: Moment, context: HookContext): Promise<void>;
  /** Whether what the operator wants done for a guest of that name could be run: it is not. */
  hooksOf(guest: string): Promise<Finding>;
  /** Guests whose hypervisor is still set as a migration wanted it: its agent has died. */
  changed(): readonly string[];
  /**
   * Sets the hypervisor of such a guest as it was before; the caller sees to it that it is not moved
   * meanwhile. @throws GodwitError guest-busy, not-seen, hypervisor-failed: then it is still changed
   */
  undo(guest: string): Promise<void>;
}

/** A guest of which nothing can be said but why. */
export interface GuestTrouble {
  readonly name: string;
  readonly hypervisor: string;
  readonly trouble: string;
}
