import { existsSync } from 'node:fs';
import type { Crew } from '../../crew/crew.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';
import { isGuestName } from '../../guest-name.ts';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../guest.ts';
import type { Guest, GuestLook, GuestOutline, GuestTrouble, Hypervisor } from '../hypervisor.ts';
import { type Observation, requireNoRehearsal } from '../profile.ts';
import { requireRoom } from '../qemu/staging.ts';
import type { XenAllowed } from './allowed.ts';
import { attachXen } from './attach.ts';
import { requireUnconfined } from './confined.ts';
import { requireAbsent, startXenDestination } from './destination.ts';
import { checkDescription, HYPERVISOR } from './device-model.ts';
import { connectXenSource } from './source.ts';
import { controlSocketOf } from './transport-protocol.ts';
import { Xl, type XlDomain } from './xl.ts';

const NOTHING: XenAllowed = { paths: [], bridges: [] };

export interface XenPlaces {
  /** The program, when it is not where hosts have it. */
  readonly xl?: string | undefined;
  /** What a guest that arrives may have of this host; nothing without it. */
  readonly xenAllowed?: XenAllowed;
  readonly guestDir: string;
  readonly ramDir: string;
}

/** The domains of this host's Xen; without xl there are none. */
export class XenHypervisor implements Hypervisor {
  readonly name = HYPERVISOR;
  readonly #places: XenPlaces;
  readonly #crew: Crew;

  /** @param crew carries the streams from and to xl */
  constructor(places: XenPlaces, crew: Crew) {
    this.#places = places;
    this.#crew = crew;
  }

  async list(except: ReadonlySet<string> = new Set()): Promise<(GuestLook | GuestTrouble)[]> {
    const xl = this.#xl;
    if (xl === undefined) return [];
    try {
      return (await xl.list()).filter(({ name }) => !except.has(name)).map(lineOf);
    } catch (error) {
      return [{ name: '-', hypervisor: this.name, trouble: asGodwitError(error).message }];
    }
  }

  async names(): Promise<readonly string[]> {
    return ((await this.#xl?.list()) ?? []).map(({ name }) => name);
  }

  async find(name: string): Promise<Guest> {
    const xl = this.#xl;
    const find = async () => (await xl?.list())?.find((one) => one.name === name);
    if (xl === undefined || (await find()) === undefined)
      throw new GodwitError('unknown-guest', `Xen has no guest "${name}"`);
    return {
      name,
      hypervisor: this.name,
      look: async () => {
        const domain = await find();
        if (domain !== undefined) return lookOf(domain);
        throw new GodwitError('guest-not-running', `guest ${name} does not run`);
      },
      machine: async () => 'xen',
      openSource: () => {
        const control = controlSocketOf(this.#places.guestDir, name);
        if (existsSync(control)) return connectXenSource(xl, control, this.#crew);
        const how = `xl migrate -s 'agent-send xl' ${name} HOST`;
        throw new GodwitError('moved-by-xl', `xl moves the guests of Xen: ${how}`);
      },
      profile: async (profiling): Promise<Observation> => {
        requireNoRehearsal(name, profiling, 'xl suspends a guest of Xen when it sees fit');
        const text = `the profile of guest ${name} cannot be taken: xl does not tell what it writes`;
        throw new GodwitError('hypervisor-failed', text);
      },
    };
  }

  async arrive(
    description: GuestDescription,
    known: (handle: string) => Promise<void>,
  ): Promise<DestinationGuest> {
    const { ramDir: stagingDir, guestDir, xenAllowed: allowed = NOTHING } = this.#places;
    const xl = this.#requireXl();
    const crew = this.#crew;
    return startXenDestination({ xl, allowed, description, guestDir, stagingDir, known, crew });
  }

  outlineOf(description: GuestDescription): GuestOutline {
    const { config } = checkDescription(description);
    const { name, hypervisor } = description;
    return { name, hypervisor, machine: 'xen', memoryBytes: config.memoryBytes };
  }

  async canTake({ name, memoryBytes }: GuestOutline): Promise<readonly Finding[]> {
    const { ramDir } = this.#places;
    return [
      await lookAt('xl', () => {
        const { program } = this.#requireXl();
        requireUnconfined();
        return `xl is ${program}`;
      }),
      await lookAt('name', async () => {
        await requireAbsent(this.#requireXl(), name);
        return `Xen has no domain that is called ${name}`;
      }),
      await lookAt('staging', () => {
        requireRoom(ramDir, memoryBytes);
        return `${ramDir} has room for it`;
      }),
      notKnown(
        'domain',
        "what the guest's configuration wants of this host is looked at when it arrives",
      ),
    ];
  }

  attach(handle: string): Promise<GuestCopy | 'gone'> {
    return attachXen(this.#xl, handle);
  }

  /** A domain has no place for commands of the operator's. */
  async hook(): Promise<void> {}

  async hooksOf(): Promise<Finding> {
    return lookAt('hooks', () => 'domains of Xen have none');
  }

  /** xl sets for each migration what it needs. */
  changed(): readonly string[] {
    return [];
  }

  async undo(): Promise<void> {}

  get #xl(): Xl | undefined {
    return Xl.on(this.#places.xl);
  }

  #requireXl(): Xl {
    const xl = this.#xl;
    if (xl !== undefined) return xl;
    throw new GodwitError('hypervisor-failed', 'this host has no Xen: there is no xl');
  }
}

function lineOf(domain: XlDomain): GuestLook | GuestTrouble {
  if (isGuestName(domain.name)) return lookOf(domain);
  const trouble = 'its name is none that a guest to be moved may have';
  return { name: domain.name, hypervisor: HYPERVISOR, trouble };
}

function lookOf({ name, state, memoryBytes }: XlDomain): GuestLook {
  return { name, hypervisor: HYPERVISOR, state, memoryBytes };
}
