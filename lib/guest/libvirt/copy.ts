import { GodwitError } from '../../errors.ts';
import { parseXml } from '../../xml.ts';
import { attach, removeFiles } from '../attach.ts';
import { endProcess } from '../end-process.ts';
import type { GuestCopy, GuestSuspension } from '../guest.ts';
import { type CopyPlace, type FoundPlace, handleOf, placeOf } from '../handle.ts';
import type { RunState } from '../run-state.ts';
import { HYPERVISOR } from './device-model.ts';
import { processOf, uuidBytes } from './domain-process.ts';
import { giveImages } from './images.ts';
import { keepsNothing } from './keeps.ts';
import { LibvirtClient } from './rpc/client.ts';
import type { DomainRef } from './rpc/procedures.ts';
import { CallRefused } from './rpc/session.ts';
import { happeningOf, lookAtDomain, unlessNone } from './run-state.ts';

/** A libvirt guest by its domain and its QEMU process; both sides of a migration build on it. */
export class LibvirtCopy implements GuestCopy {
  protected readonly client: LibvirtClient;
  protected readonly domain: DomainRef;
  readonly #place: FoundPlace;
  #closed = false;

  constructor(client: LibvirtClient, domain: DomainRef, place: FoundPlace) {
    this.client = client;
    this.domain = domain;
    this.#place = place;
  }

  /** The QEMU process: another one of the same domain is another copy. */
  get handle(): string {
    return handleOf(this.#place);
  }

  get hypervisorVersion(): string {
    return `libvirt ${this.client.version}`;
  }

  async state(): Promise<RunState> {
    const state = await lookAtDomain(this.client, this.domain);
    if (state !== undefined) return state;
    throw new GodwitError('guest-died', `libvirt has ended guest ${this.domain.name}`);
  }

  async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    onStop?.(0);
    await this.client.suspend(this.domain);
    return this.state();
  }

  /** A domain that was paused does nothing by itself. */
  async seal(): Promise<Uint8Array> {
    return new Uint8Array(0);
  }

  /** A guest that was paused before it was to be moved is left so. */
  async resume(): Promise<RunState> {
    const state = await this.state();
    if (state === 'incoming')
      throw new GodwitError('not-started', 'libvirt cannot run the guest: it has not arrived');
    const isOurs = state === 'migrated' || state === 'paused';
    return isOurs && !this.#place.paused ? this.#run(state) : state;
  }

  /** By its XML as it is now. */
  async memoryOnly(): Promise<boolean> {
    return keepsNothing(parseXml(await this.client.xml(this.domain)));
  }

  /** The guest has no heartbeat that is known here. */
  async suspension(): Promise<GuestSuspension | undefined> {
    return undefined;
  }

  async destroy(): Promise<void> {
    // Whatever libvirt says of it, its process is what counts.
    if (!this.#closed) await this.client.destroy(this.domain).catch(() => {});
    await endProcess(this.#place.process);
    this.close();
    removeFiles(this.#place);
  }

  close(): void {
    this.#closed = true;
    this.client.close();
  }

  /** Libvirt says that it runs before it answers; what stops the guest a moment later has let it run. */
  async #run(before: RunState): Promise<RunState> {
    giveImages(this.#place.images ?? []); // what it has written is kept
    let hasRun = false;
    const stopListening = this.client.onEvent((event) => {
      if (event.type !== 'lifecycle' || !event.domain.uuid.equals(this.domain.uuid)) return;
      hasRun ||= happeningOf(event.event, event.detail)?.what === 'resumed';
    });
    try {
      await this.client.resume(this.domain);
    } catch (error) {
      const refused = error instanceof CallRefused && !hasRun;
      if (!refused || (await this.state()) !== before || hasRun) throw error;
      throw new GodwitError('not-started', error.message, { cause: error });
    } finally {
      stopListening();
    }
    return this.state().catch(() => 'running' as const); // as it was when libvirt answered
  }
}

/** @throws as `attach` */
export async function attachLibvirt(handle: string): Promise<GuestCopy | 'gone'> {
  const place = placeOf(HYPERVISOR, handle);
  const { uuid = '' } = place;
  const bytes = uuidBytes(uuid);
  if (bytes === undefined)
    throw new GodwitError('journal-invalid', `the journal has no domain's handle: ${handle}`);
  return attach(place, {
    connect: (found) => connect(found, bytes),
    waiting: (unfinished) => waiting(unfinished, bytes),
    marks: () => ['-incoming', uuid],
    clear: removeFiles,
  });
}

async function connect(place: FoundPlace, uuid: Buffer): Promise<GuestCopy> {
  return withClient(place, async (client) => {
    const domain = await client.lookupUuid(uuid);
    if (processOf(place.socket, domain).pid !== place.process.pid)
      throw new GodwitError('not-seen', `libvirt has another QEMU for guest ${place.guest}`);
    await client.listen();
    return new LibvirtCopy(client, domain, place);
  });
}

/** Libvirt ends what it has prepared when the agent goes away: soon there is none. */
async function waiting(place: CopyPlace, uuid: Buffer): Promise<GuestCopy | undefined> {
  return withClient(place, async (client) => {
    const domain = await unlessNone(client.lookupUuid(uuid));
    const state = domain && (await lookAtDomain(client, domain));
    if (domain === undefined || state === undefined)
      throw new GodwitError('not-seen', `libvirt has no guest ${place.guest} that runs`);
    if (state !== 'migrated') return undefined;
    await client.listen();
    const process = processOf(place.socket, domain);
    return new LibvirtCopy(client, domain, { ...place, process });
  });
}

async function withClient<T>(
  { socket }: CopyPlace,
  use: (client: LibvirtClient) => Promise<T>,
): Promise<T> {
  const client = await LibvirtClient.connect(socket);
  let kept = false;
  try {
    const made = await use(client);
    kept = made !== undefined;
    return made;
  } finally {
    if (!kept) client.close();
  }
}
