import { rmSync } from 'node:fs';
import path from 'node:path';
import type { Crew } from '../../crew/crew.ts';
import { asGodwitError, type ErrorCode, GodwitError } from '../../errors.ts';
import { PAGE_SIZE, type Region, type RegionFile } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import { child, parseXml, xmlOf } from '../../xml.ts';
import type { DestinationGuest, GuestDescription } from '../guest.ts';
import { type CopyPlace, type FoundPlace, handleOf } from '../handle.ts';
import { openEgress, type QemuEgress } from '../qemu/egress.ts';
import { StagingFile } from '../qemu/staging.ts';
import type { RunState } from '../run-state.ts';
import { type Allowed, requireAllowed, requireMemory } from './allowed.ts';
import { cookieFor, EGRESS_CAPABILITIES, readCookie } from './cookie.ts';
import { copiedDisks, imagesOf, withoutBacking } from './copied-disks.ts';
import { LibvirtCopy } from './copy.ts';
import { keepDefinition, renamed, requireSame, uuidIn } from './definition.ts';
import { checkDescription, HYPERVISOR, type LibvirtModel } from './device-model.ts';
import { processOf, uuidText } from './domain-process.ts';
import { imageKey, makeImages, missingImages, type NewImage } from './images.ts';
import { incomingSocket } from './incoming.ts';
import { migrateFlags } from './migration.ts';
import { ramFilesOf } from './ram-files.ts';
import { LibvirtClient, type MigrateParameters } from './rpc/client.ts';
import { type DomainRef, MIGRATE } from './rpc/procedures.ts';
import { happeningOf, lookAtDomain, unlessNone } from './run-state.ts';

export interface LibvirtDestinationOptions {
  /** Of the host's libvirtd. */
  readonly socket: string;
  readonly allowed: Allowed;
  /** As the source gave it; it may come from a peer and is checked. */
  readonly description: GuestDescription;
  /** Directory for memory that waits to go into QEMU's stream. */
  readonly stagingDir: string;
  /** Directory for definitions that wait for their domains. */
  readonly definitionDir: string;
  /** Told its handle, as `Hypervisor.arrive`. */
  readonly known: (handle: string) => Promise<void>;
  /** Carries the stream to QEMU. */
  readonly crew: Crew;
}

/**
 * Has libvirt start the QEMU of a domain, and this accept the guest's machine and RAM blocks. Until the
 * guest is loaded it goes with this agent, afterwards it is a domain like any other.
 * @throws GodwitError bad-message, definition-invalid, memory-insufficient, ram-file-failed,
 *   guest-exists; hypervisor-failed with libvirt's own words
 */
export async function startLibvirtDestination(
  options: LibvirtDestinationOptions,
): Promise<DestinationGuest> {
  const { socket, description, known, definitionDir } = options;
  const { name } = description;
  const model = checkDescription(description);
  const { uuid, xmlName, definition } = requireTakable(model, options);
  const images = imagesFor(model);
  const client = await LibvirtClient.connect(socket);
  try {
    await requireAbsent(client, name, uuid);
    if (model.storage !== undefined) await requireUnused(client, model, uuid);
    await client.listen();
    const file = definition && path.join(definitionDir, `${uuidText(uuid)}.xml`);
    const place: CopyPlace = {
      kind: HYPERVISOR,
      ...{ guest: name, socket, uuid: uuidText(uuid), ram: [] },
      ...(file === undefined ? {} : { definition: file }),
      ...(images.length === 0 ? {} : { images: images.map(({ mark }) => mark) }),
    };
    await known(handleOf(place));
    if (file !== undefined) await keepDefinition(file, definition!);
    makeImages(images);
    return await occupy({ client, model, name, xmlName, uuid, place }, options);
  } catch (error) {
    client.close(); // and what libvirt has prepared goes
    throw error;
  }
}

interface Takable {
  readonly uuid: Buffer;
  /** What the guest was called at its source. */
  readonly xmlName: string;
  /** As it is to be kept here. */
  readonly definition: string | undefined;
}

/** @throws GodwitError definition-invalid, bad-message */
function requireTakable(
  { xml, definition }: LibvirtModel,
  { description, allowed }: LibvirtDestinationOptions,
): Takable {
  const domain = parseXml(xml);
  requireAllowed(domain, allowed);
  requireMemory(domain, bytesOf(description));
  const uuid = uuidIn(domain);
  const xmlName = child(domain, 'name')?.text ?? '';
  if (uuid === undefined || xmlName === '')
    throw new GodwitError('bad-message', 'the XML of the guest has no name, or no UUID');
  if (definition === undefined) return { uuid, xmlName, definition };
  const kept = requireSame(definition, uuid);
  requireAllowed(kept, allowed);
  return { uuid, xmlName, definition: renamed(kept, description.name) };
}

/** What has to be made for its disks. @throws GodwitError definition-invalid */
function imagesFor({ xml, cookie, storage }: LibvirtModel): readonly NewImage[] {
  if (storage === undefined) return [];
  return missingImages(copiedDisks(parseXml(xml)), readCookie(cookie).capacities, storage);
}

/** Its disks are about to be overwritten. @throws GodwitError definition-invalid when another domain has one */
async function requireUnused(
  client: LibvirtClient,
  { xml }: LibvirtModel,
  uuid: Buffer,
): Promise<void> {
  const images = copiedDisks(parseXml(xml)).map(({ image }) => imageKey(image));
  const others = (await client.list()).filter((domain) => !domain.uuid.equals(uuid));
  for (const other of others) {
    const theirs = [client.xml(other), client.definition(other)].map(unlessNone);
    for (const text of await Promise.all(theirs)) {
      const used =
        text && imagesOf(parseXml(text)).find((image) => images.includes(imageKey(image)));
      if (!used) continue;
      const why = `${used} is a disk of guest ${other.name} here, and would be overwritten`;
      throw new GodwitError('definition-invalid', why);
    }
  }
}

function bytesOf({ regions }: GuestDescription): number {
  return regions.reduce((sum, { pages }) => sum + pages * PAGE_SIZE, 0);
}

/** @throws GodwitError guest-exists */
export async function requireAbsent(
  client: LibvirtClient,
  name: string,
  uuid?: Buffer,
): Promise<void> {
  const lookups = [client.lookup(name), ...(uuid ? [client.lookupUuid(uuid)] : [])];
  for (const found of await Promise.all(lookups.map(unlessNone))) {
    if (found === undefined || (await lookAtDomain(client, found)) === undefined) continue;
    const text = `guest ${found.name} is here already: libvirt runs a domain of that name or UUID`;
    throw new GodwitError('guest-exists', text);
  }
}

/** What a destination is made of. */
interface Parts {
  readonly client: LibvirtClient;
  readonly model: LibvirtModel;
  /** Here. */
  readonly name: string;
  /** Where it comes from, which cookies go by. */
  readonly xmlName: string;
  readonly uuid: Buffer;
  readonly place: CopyPlace;
}

async function occupy(
  parts: Parts,
  { description, stagingDir, known, crew }: LibvirtDestinationOptions,
): Promise<DestinationGuest> {
  const { client, model, name, xmlName, uuid, place } = parts;
  const incoming = incomingSocket();
  const disksSocket = model.storage && incomingSocket();
  const parameters = {
    ...{ migrate_uri: `unix://${incoming}`, destination_name: name },
    ...(disksSocket === undefined ? {} : { disks_uri: `unix://${disksSocket}` }),
  };
  try {
    const { cpu, capacities } = readCookie(model.cookie);
    const disks = model.storage && capacities;
    const knows = { cpu, disks, capabilities: EGRESS_CAPABILITIES };
    const cookie = cookieFor({ name: xmlName, uuid: uuidText(uuid), ...knows });
    const prepare = { ...parameters, destination_xml: xmlFor(model) };
    await client.prepare(prepare, cookie, migrateFlags(model.storage));
    const domain = await client.lookupUuid(uuid);
    const process = processOf(place.socket, domain);
    const direct = ramFilesOf(process, description.regions);
    const isStaged = (region: Region) => !direct.some((one) => one.region === region);
    const staging = new StagingFile(stagingDir, name, description.regions.filter(isStaged));
    const found = { ...place, process, staging: staging.path };
    const sockets = { incoming, disksSocket };
    const all = { ...parts, place: found, domain, parameters, ...sockets, direct, staging, crew };
    const guest = new LibvirtDestination(all);
    try {
      await known(guest.handle);
      staging.make();
      await guest.open();
      return guest;
    } catch (error) {
      await guest.destroy().catch(() => {}); // what went wrong first is the reason
      throw error;
    }
  } finally {
    rmSync(incoming, { force: true }); // QEMU takes one connection
  }
}

/** As its source has it; of disks that are copied whole, what is below them there is not below them here. */
function xmlFor({ xml, storage }: LibvirtModel): string {
  return storage === 'all' ? xmlOf(withoutBacking(parseXml(xml))) : xml;
}

interface PreparedParts extends Parts {
  readonly place: FoundPlace;
  readonly domain: DomainRef;
  readonly parameters: MigrateParameters;
  /** Where QEMU waits for its migration stream. */
  readonly incoming: string;
  /** Where it waits for the content of disks. */
  readonly disksSocket: string | undefined;
  /** Memory that QEMU has in files. */
  readonly direct: readonly RegionFile[];
  /** All other memory. */
  readonly staging: StagingFile;
  readonly crew: Crew;
}

class LibvirtDestination extends LibvirtCopy implements DestinationGuest {
  readonly memory: readonly RegionFile[];
  readonly #parts: PreparedParts;
  readonly #egress: QemuEgress;
  readonly #death = Promise.withResolvers<GodwitError>();
  /** It is a domain like any other. */
  #loaded = false;

  constructor(parts: PreparedParts) {
    const { client, domain, place, model, direct, staging, incoming, crew } = parts;
    super(client, domain, place);
    this.#parts = parts;
    this.memory = [...direct, ...staging.memory];
    const { prologue, sectionId } = model.stream;
    const stream = { socket: incoming, prologue, sectionId, staged: staging.memory };
    const died = (error: GodwitError) => this.#death.resolve(error);
    this.#egress = openEgress(crew, stream, died);
    client.onEvent((event) => {
      if (event.type !== 'lifecycle' || !event.domain.uuid.equals(domain.uuid)) return;
      if (happeningOf(event.event, event.detail)?.what === 'gone')
        died(new GodwitError('guest-died', `libvirt has ended guest ${domain.name}`));
    });
    client.onClose((error) => {
      if (!this.#loaded) died(error); // what it had prepared is gone
    });
  }

  get disksSocket(): string | undefined {
    return this.#parts.disksSocket;
  }

  get placement(): 'direct' | 'stream' {
    return this.#parts.direct.length > 0 ? 'direct' : 'stream';
  }

  /** Has QEMU take the machine and the RAM blocks. */
  open(): Promise<void> {
    return this.#must('does not take the guest', 'hypervisor-failed', () => this.#egress.open());
  }

  override async state(): Promise<RunState> {
    const state = await super.state();
    return state === 'migrated' && !this.#loaded ? 'incoming' : state;
  }

  pagesArrived(pages: PageSet): Promise<void> {
    return this.#must('lost its migration stream', 'hypervisor-failed', () =>
      this.#egress.round(pages),
    );
  }

  /** Libvirt is told to leave the guest paused: it is there whatever becomes of this agent. */
  async loadDeviceState(state: StateSpool): Promise<void> {
    const { client, parameters, xmlName, uuid, model } = this.#parts;
    await this.#must("does not take the guest's device state", 'device-state-invalid', async () => {
      const error = await this.#egress.finish(state.share);
      if (error !== 0) throw new GodwitError('hypervisor-failed', `its answer is error ${error}`);
      const end = { name: xmlName, uuid: uuidText(uuid), capabilities: EGRESS_CAPABILITIES };
      const cookie = cookieFor(end);
      const flags = migrateFlags(model.storage) | MIGRATE.paused;
      const domain = await client.finish(parameters, cookie, flags);
      this.#loaded = true;
      // Disks that are copied are not those of its source, and others are only read, or shared.
      if (model.storage === undefined) await client.releaseDisks(domain);
    });
    await this.#egress.stop();
    this.#removeSocket();
    this.#parts.staging.remove();
  }

  onDeath(listener: (error: Error) => void): void {
    this.#death.promise.then(listener);
  }

  override async destroy(): Promise<void> {
    await this.#egress.stop();
    await super.destroy();
    this.#removeSocket();
  }

  override close(): void {
    void this.#egress.stop();
    super.close();
  }

  #removeSocket(): void {
    if (this.disksSocket !== undefined) rmSync(this.disksSocket, { force: true });
  }

  async #must<T>(what: string, code: ErrorCode, step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (error.code === 'cancelled') throw error;
      const text = `QEMU of guest ${this.#parts.name} ${what}: ${error.message}`;
      throw new GodwitError(code, text, { cause: error });
    }
  }
}
