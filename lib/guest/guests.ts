import type { Crew } from '../crew/crew.ts';
import { asGodwitError, type ErrorCode, GodwitError } from '../errors.ts';
import { type Finding, lookAt } from '../finding.ts';
import { GUEST_NAME_RULE, isGuestName } from '../guest-name.ts';
import { didYouMean } from '../nearest.ts';
import type { DestinationGuest, GuestCopy, GuestDescription, Moment } from './guest.ts';
import type {
  DefinitionDuty,
  DomainTerms,
  Guest,
  GuestLook,
  GuestOutline,
  GuestTrouble,
  HookContext,
  Hypervisor,
  KeptFiles,
} from './hypervisor.ts';
import { HYPERVISOR as LIBVIRT } from './libvirt/device-model.ts';
import { LibvirtHypervisor, type LibvirtPlaces } from './libvirt/hypervisor.ts';
import { removeOrphans } from './orphans.ts';
import { INGEST } from './push/ingest-protocol.ts';
import { HYPERVISOR as QEMU } from './qemu/device-model.ts';
import { EGRESS } from './qemu/egress.ts';
import { QemuHypervisor, type QemuPlaces } from './qemu/hypervisor.ts';
import { SimulatedHypervisor, type SimulatedPlaces } from './simulated/hypervisor.ts';
import { removeRemains } from './simulated/socket-claim.ts';
import { XEN_EGRESS } from './xen/egress.ts';
import { XenHypervisor, type XenPlaces } from './xen/hypervisor.ts';
import { XEN_INGEST } from './xen/ingest-protocol.ts';

/** Tasks that guests have on either side. */
export const SOURCE_TASKS = [INGEST, XEN_INGEST];
export const DESTINATION_TASKS = [EGRESS, XEN_EGRESS];

/** Where the agents of a host look for guests, and put them. */
export type GuestPlaces = QemuPlaces & SimulatedPlaces & LibvirtPlaces & XenPlaces;

/** @throws GodwitError bad-option when something is asked for that only a domain of libvirt can have */
export function requireTerms(guest: Pick<Guest, 'name' | 'hypervisor'>, terms: DomainTerms): void {
  if (guest.hypervisor === LIBVIRT) return;
  const { destXml, destName, persistent, undefineSource, copyStorage } = terms;
  const given = { 'dest-xml': destXml, 'dest-name': destName, persistent };
  const storage = copyStorage && { [`copy-storage-${copyStorage}`]: true };
  const all = Object.entries({ ...given, 'undefine-source': undefineSource, ...storage });
  const option = all.find(([, value]) => value !== undefined && value !== false)?.[0];
  if (option === undefined) return;
  const text = `--${option} is for domains of libvirt; guest ${guest.name} is one of hypervisor "${guest.hypervisor}"`;
  throw new GodwitError('bad-option', text);
}

/** The guests of this host, of whatever kind. A name that two kinds have means the first one's guest. */
export class Guests {
  readonly #places: GuestPlaces;
  readonly #hypervisors: readonly Hypervisor[];

  /** @param crew carries streams from and to their hypervisors */
  constructor(places: GuestPlaces, crew: Crew) {
    this.#places = places;
    this.#hypervisors = [
      new QemuHypervisor(places, crew),
      new SimulatedHypervisor(places),
      new LibvirtHypervisor(places, crew),
      new XenHypervisor(places, crew),
    ];
  }

  /**
   * As `Hypervisor.list`; one that is hidden behind another kind's guest of the same name says so. A
   * domain of libvirt that has a definition as well is one guest, not two.
   */
  async list(except: ReadonlySet<string> = new Set()): Promise<(GuestLook | GuestTrouble)[]> {
    const lists = await Promise.all(this.#hypervisors.map((kind) => kind.list(except)));
    const first = new Map<string, string>();
    return lists.flat().flatMap((line) => {
      const { name, hypervisor } = line;
      const owner = first.get(name) ?? hypervisor;
      first.set(name, owner);
      if (owner === hypervisor) return [line];
      if (owner === QEMU && hypervisor === LIBVIRT) return [];
      return [{ name, hypervisor, trouble: `not reachable: a ${owner} guest has the same name` }];
    });
  }

  /** @throws GodwitError unknown-guest, definition-invalid */
  async find(name: string): Promise<Guest> {
    for (const kind of this.#hypervisors) {
      try {
        return await kind.find(name);
      } catch (thrown) {
        const error = asGodwitError(thrown);
        if (error.code !== 'unknown-guest') throw error;
      }
    }
    throw await this.#unknown(name);
  }

  async #unknown(name: string): Promise<GodwitError> {
    if (!isGuestName(name)) return new GodwitError('unknown-guest', GUEST_NAME_RULE);
    const names = (await Promise.all(this.#hypervisors.map((kind) => kind.names()))).flat();
    const known = names.length === 0 ? 'there is none' : `there are ${names.join(', ')}`;
    const text = `no guest "${name}" on this host; ${known}${didYouMean(name, names)}`;
    return new GodwitError('unknown-guest', text);
  }

  /** As `Hypervisor.arrive`, for the hypervisor that the description names. */
  async arrive(
    description: GuestDescription,
    known: (handle: string) => Promise<void>,
    kept?: KeptFiles,
  ): Promise<DestinationGuest> {
    return this.#named(description.hypervisor).arrive(description, known, kept);
  }

  /** As `Hypervisor.canTake`, for the hypervisor that the guest names, if this host has it. */
  async canTake(guest: GuestOutline, verify: boolean, spare: number): Promise<readonly Finding[]> {
    const offered = await lookAt('hypervisor', () => this.#named(guest.hypervisor).name);
    if (offered.verdict !== 'ok') return [offered];
    const kind = this.#named(guest.hypervisor);
    return [offered, ...(await kind.canTake(guest, verify, spare)), await kind.hooksOf(guest.name)];
  }

  /** As `Hypervisor.outlineOf`. @throws GodwitError hypervisor-failed where this host has no such */
  outlineOf(description: GuestDescription): GuestOutline {
    return this.#named(description.hypervisor).outlineOf(description);
  }

  /** As `Hypervisor.hooksOf`, for a guest of that hypervisor. */
  async hooksOf(hypervisor: string, guest: string): Promise<Finding> {
    return this.#named(hypervisor).hooksOf(guest);
  }

  /** @throws GodwitError hook-failed, definition-invalid when `hooksOf` finds that they could not */
  async requireHooks(hypervisor: string, guest: string): Promise<void> {
    const { verdict, code, text } = await this.hooksOf(hypervisor, guest);
    if (verdict === 'no') throw new GodwitError(code as ErrorCode, text);
  }

  /** As `Hypervisor.attach`. */
  async attach(hypervisor: string, handle: string): Promise<GuestCopy | 'gone'> {
    return this.#named(hypervisor).attach(handle);
  }

  /** As `Hypervisor.definitionOf`. */
  definitionOf(hypervisor: string, handle: string): DefinitionDuty | undefined {
    return this.#named(hypervisor).definitionOf?.(handle);
  }

  /** As `Hypervisor.hook`, for a guest of that hypervisor. */
  async hook(hypervisor: string, moment: Moment, context: HookContext): Promise<void> {
    return this.#named(hypervisor).hook(moment, context);
  }

  /**
   * Removes what VMMs and agents that were killed have left behind, where it is provably nobody's.
   * @param isOpen whether anything is left to be done to a guest of that name
   * @returns the paths of what was removed
   */
  async removeOrphans(isOpen: (guest: string) => boolean): Promise<string[]> {
    const { guestDir, ramDir } = this.#places;
    const remains = await removeRemains(guestDir, isOpen);
    return [...remains, ...removeOrphans(ramDir, isOpen)];
  }

  /** As `Hypervisor.changed`, of all of them. */
  changed(): readonly string[] {
    return this.#hypervisors.flatMap((kind) => kind.changed());
  }

  /** As `Hypervisor.undo`, wherever that guest is changed. */
  async undo(guest: string): Promise<void> {
    for (const kind of this.#hypervisors)
      if (kind.changed().includes(guest)) await kind.undo(guest);
  }

  #named(name: string): Hypervisor {
    const found = this.#hypervisors.find((kind) => kind.name === name);
    if (found !== undefined) return found;
    throw new GodwitError('hypervisor-failed', `this host has no hypervisor "${name}"`);
  }
}
