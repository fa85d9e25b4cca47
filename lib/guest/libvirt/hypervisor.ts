import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Crew } from '../../crew/crew.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';
import { isGuestName } from '../../guest-name.ts';
import { GuestLayout, PAGE_SIZE } from '../../memory/guest-layout.ts';
import { child, parseXml } from '../../xml.ts';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../guest.ts';
import { placeOf } from '../handle.ts';
import type {
  DefinitionDuty,
  Guest,
  GuestLook,
  GuestOutline,
  GuestTrouble,
  Hypervisor,
} from '../hypervisor.ts';
import { requireNoRehearsal } from '../profile.ts';
import { requireRoom } from '../qemu/staging.ts';
import { type Allowed, requireAllowed } from './allowed.ts';
import { confinement } from './confined.ts';
import { copiedDisks } from './copied-disks.ts';
import { attachLibvirt } from './copy.ts';
import { hardwareFindings } from './cpu.ts';
import { definitionDuty, uuidIn } from './definition.ts';
import { requireAbsent, startLibvirtDestination } from './destination.ts';
import { checkDescription, HYPERVISOR } from './device-model.ts';
import { processOf, uuidText } from './domain-process.ts';
import { INCOMING_DIR } from './incoming.ts';
import { profileDomain } from './profile.ts';
import { LibvirtClient } from './rpc/client.ts';
import { type DomainRef, XML } from './rpc/procedures.ts';
import { lookAtDomain, unlessNone } from './run-state.ts';
import { connectLibvirtSource } from './source.ts';
import { bytesOf } from './source-disks.ts';

/** A libvirtd that stands still does not keep a look waiting. */
const LOOK_LIMITS = { connectMs: 3000, callMs: 3000 };
/** Of a host that has libvirt: the one daemon for QEMU's domains, or the one for everything. */
const SOCKETS = ['/run/libvirt/virtqemud-sock', '/run/libvirt/libvirt-sock'];

const NOTHING: Allowed = { paths: [], networks: [] };

export interface LibvirtPlaces {
  /** Of the libvirtd, when it is none of those that hosts have. */
  readonly libvirtSocket?: string | undefined;
  /** What a guest that arrives may have of this host; nothing without it. */
  readonly libvirtAllowed?: Allowed;
  /** Where guests' control sockets are, and those that QEMU migrates to. */
  readonly guestDir: string;
  /** Where memory that arrives is staged. */
  readonly ramDir: string;
  /** Where definitions wait for their domains. */
  readonly stateDir: string;
}

/** The domains of this host's libvirt; without libvirt there are none. */
export class LibvirtHypervisor implements Hypervisor {
  readonly name = HYPERVISOR;
  readonly #places: LibvirtPlaces;
  readonly #crew: Crew;

  /** @param crew carries the streams from and to QEMU */
  constructor(places: LibvirtPlaces, crew: Crew) {
    this.#places = places;
    this.#crew = crew;
  }

  async list(except: ReadonlySet<string> = new Set()): Promise<(GuestLook | GuestTrouble)[]> {
    if (this.#socket === undefined) return [];
    try {
      return await this.#asking(async (client) => {
        const domains = (await client.list()).filter(({ name }) => !except.has(name));
        const lines = await Promise.all(domains.map((domain) => lineOf(client, domain)));
        return lines.filter((line) => line !== undefined);
      });
    } catch (error) {
      const { message } = asGodwitError(error);
      return [{ name: '-', hypervisor: this.name, trouble: message }];
    }
  }

  async names(): Promise<readonly string[]> {
    if (this.#socket === undefined) return [];
    return this.#asking(async (client) => (await client.list()).map(({ name }) => name));
  }

  async find(name: string): Promise<Guest> {
    const socket = this.#socket;
    const unknown = () => new GodwitError('unknown-guest', `libvirt has no guest "${name}"`);
    if (socket === undefined) throw unknown();
    const found = await this.#asking((client) => unlessNone(client.lookup(name)));
    if (found === undefined) throw unknown();
    const { guestDir: streamDir } = this.#places;
    return {
      name,
      uuid: uuidText(found.uuid),
      hypervisor: this.name,
      look: () => this.#asking(async (client) => lookAs(client, await client.lookup(name))),
      machine: () => this.#asking(async (client) => machineOf(client, await client.lookup(name))),
      domain: ({ destXml }) =>
        this.#asking(async (client) => {
          return destXml ?? client.xml(await client.lookup(name), XML.migratable);
        }),
      diskBytes: (terms) =>
        this.#asking(async (client) => {
          if (terms.copyStorage === undefined) return 0;
          const domain = await client.lookup(name);
          return bytesOf(client, domain, copiedDisks(parseXml(await client.xml(domain))));
        }),
      openSource: (terms = {}) =>
        connectLibvirtSource({ socket, name, streamDir, terms }, this.#crew),
      profile: async (profiling) => {
        const why = 'libvirt has the monitor by which the passes of QEMU are followed';
        requireNoRehearsal(name, profiling, why);
        return profileDomain({ socket, name }, profiling);
      },
    };
  }

  async arrive(
    description: GuestDescription,
    known: (handle: string) => Promise<void>,
  ): Promise<DestinationGuest> {
    const { ramDir: stagingDir, stateDir, libvirtAllowed: allowed = NOTHING } = this.#places;
    const dirs = { stagingDir, definitionDir: path.join(stateDir, 'definitions') };
    const socket = this.#requireSocket();
    const crew = this.#crew;
    return startLibvirtDestination({ socket, allowed, description, ...dirs, known, crew });
  }

  outlineOf(description: GuestDescription): GuestOutline {
    const { xml: domain } = checkDescription(description);
    const { name, hypervisor, regions } = description;
    const { totalPages } = new GuestLayout(regions);
    const uuid = uuidIn(parseXml(domain));
    const known = uuid === undefined ? {} : { uuid: uuidText(uuid) };
    const memoryBytes = totalPages * PAGE_SIZE;
    return { name, hypervisor, machine: machineIn(domain), memoryBytes, ...known, domain };
  }

  async canTake(guest: GuestOutline, verify: boolean): Promise<readonly Finding[]> {
    const { name, memoryBytes } = guest;
    return [
      await lookAt('libvirt', () => {
        return this.#asking(async (client) => `libvirtd answers at ${client.path}`);
      }),
      await lookAt('name', () =>
        this.#asking(async (client) => {
          await requireAbsent(client, name);
          return `libvirt runs no domain that is called ${name}`;
        }),
      ),
      ...(await confinement(INCOMING_DIR)),
      this.#room(memoryBytes),
      ...(verify ? [notKnown('verify', 'memory can be read again if the domain shares it')] : []),
      ...(await this.#fits(guest)),
    ];
  }

  async #fits({ domain }: GuestOutline): Promise<readonly Finding[]> {
    const { libvirtAllowed: allowed = NOTHING } = this.#places;
    if (domain === undefined)
      return [
        notKnown('domain', "what the guest's XML wants of this host is looked at when it arrives"),
      ];
    const fits = await lookAt('domain', () => {
      requireAllowed(parseXml(domain), allowed);
      return 'its XML has nothing that is not allowed here';
    });
    if (fits.verdict !== 'ok') return [fits];
    const look = (client: LibvirtClient) => hardwareFindings(client, parseXml(domain));
    const found = this.#asking(look).catch((thrown) => [
      notKnown('machine', asGodwitError(thrown).message),
    ]);
    return [fits, ...(await found)];
  }

  attach(handle: string): Promise<GuestCopy | 'gone'> {
    return attachLibvirt(handle);
  }

  definitionOf(handle: string): DefinitionDuty | undefined {
    return definitionDuty(placeOf(HYPERVISOR, handle));
  }

  /** A domain has no place for commands of the operator's; libvirt has hooks of its own. */
  async hook(): Promise<void> {}

  async hooksOf(): Promise<Finding> {
    return lookAt('hooks', () => 'domains of libvirt have none but those of libvirt itself');
  }

  /** Libvirt sets for each migration what it needs. */
  changed(): readonly string[] {
    return [];
  }

  async undo(): Promise<void> {}

  /** Memory that a domain shares needs none of it; whether it does, its XML says. */
  #room(bytes: number): Finding {
    const { ramDir } = this.#places;
    try {
      requireRoom(ramDir, bytes);
      return { about: 'staging', verdict: 'ok', code: '', text: `${ramDir} has room for it` };
    } catch (error) {
      const { message } = asGodwitError(error);
      return notKnown('staging', `unless the domain shares its memory: ${message}`);
    }
  }

  get #socket(): string | undefined {
    return this.#places.libvirtSocket ?? standardSocket();
  }

  #requireSocket(): string {
    return libvirtSocketOf(this.#places.libvirtSocket);
  }

  async #asking<T>(ask: (client: LibvirtClient) => Promise<T>): Promise<T> {
    const client = await LibvirtClient.connect(this.#requireSocket(), LOOK_LIMITS);
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  }
}

/** That of this host's libvirt, unless another is given. @throws GodwitError hypervisor-failed */
export function libvirtSocketOf(given: string | undefined): string {
  const socket = given ?? standardSocket();
  if (socket !== undefined) return socket;
  const dirs = SOCKETS.map((one) => path.basename(one)).join(' or ');
  const text = `this host has no libvirt: there is no ${dirs} in /run/libvirt`;
  throw new GodwitError('hypervisor-failed', text);
}

function standardSocket(): string | undefined {
  return SOCKETS.find((socket) => existsSync(socket));
}

/** Undefined for a domain that has ended meanwhile. */
async function lineOf(
  client: LibvirtClient,
  domain: DomainRef,
): Promise<GuestLook | GuestTrouble | undefined> {
  const { name } = domain;
  try {
    if ((await lookAtDomain(client, domain)) === undefined) return undefined;
    return await lookAs(client, domain);
  } catch (error) {
    return { name, hypervisor: HYPERVISOR, trouble: asGodwitError(error).message };
  }
}

async function lookAs(client: LibvirtClient, domain: DomainRef): Promise<GuestLook> {
  const { name } = domain;
  const state = await lookAtDomain(client, domain);
  if (state === undefined)
    throw new GodwitError('guest-not-running', `guest ${name} does not run: libvirt only knows it`);
  if (!isGuestName(name))
    throw new GodwitError(
      'guest-not-running',
      'its name is none that a guest to be moved may have',
    );
  processOf(client.path, domain); // one that cannot be seen cannot be moved
  return { name, hypervisor: HYPERVISOR, state, memoryBytes: await client.memoryBytes(domain) };
}

/** As `pc-q35-10.0`. */
async function machineOf(client: LibvirtClient, domain: DomainRef): Promise<string> {
  return machineIn(await client.xml(domain));
}

function machineIn(xml: string): string {
  const type = child(child(parseXml(xml), 'os'), 'type');
  return type?.attributes.get('machine') ?? 'unknown';
}
