import path from 'node:path';
import type { Crew, Task } from '../../crew/crew.ts';
import { GodwitError } from '../../errors.ts';
import { within } from '../../poll.ts';
import { parseXml } from '../../xml.ts';
import type { DomainTerms } from '../hypervisor.ts';
import {
  INGEST,
  type IngestData,
  type IngestRequests,
  type Prologue,
} from '../push/ingest-protocol.ts';
import { StreamSocket } from '../qemu/stream-socket.ts';
import { copiedDisks } from './copied-disks.ts';
import { LibvirtMigration } from './migration.ts';
import type { LibvirtClient } from './rpc/client.ts';
import type { DomainRef } from './rpc/procedures.ts';
import { SourceDisks } from './source-disks.ts';

/** Libvirt sets QEMU up and connects it; its first bytes come at once. */
export const PROLOGUE_LIMIT_MS = 30_000;

/** Where a libvirt domain is, and where the socket that it migrates to may be made. */
export interface LibvirtSourcePlace {
  readonly socket: string;
  readonly name: string;
  readonly streamDir: string;
  readonly terms: DomainTerms;
}

/** A migration into our socket that can be asked for. */
export interface Begun {
  readonly migration: LibvirtMigration;
  readonly ingest: Task<IngestRequests>;
  /** Where QEMU is to connect; nobody does any more once the first bytes are here. */
  readonly stream: StreamSocket;
  /** Of the stream's `StreamEnd`. */
  readonly end: SharedArrayBuffer;
}

export interface Beginning extends LibvirtSourcePlace {
  readonly client: LibvirtClient;
  readonly domain: DomainRef;
  readonly crew: Crew;
}

/** Undefined when none is to be copied, or there is none that is not shared or only read. */
export async function disksToCopy({
  client,
  domain,
  terms,
}: Beginning): Promise<SourceDisks | undefined> {
  if (terms.copyStorage === undefined) return undefined;
  const disks = copiedDisks(parseXml(await client.xml(domain)));
  return disks.length === 0 ? undefined : SourceDisks.find(client, domain, disks);
}

/** What its stream begins with; QEMU goes on as if it had never been asked to migrate. */
export async function lookAtMemory(beginning: Beginning): Promise<Prologue> {
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  const looking = { ...beginning, terms: {} };
  const begun = await begin(looking, undefined, failure.reject, true);
  try {
    begun.migration.start(failure.reject);
    return await firstBytes(begun, failure.promise, beginning.name, PROLOGUE_LIMIT_MS);
  } finally {
    await giveUp(begun);
  }
}

/** Never rejects. */
export async function giveUp({ ingest, migration, stream }: Begun): Promise<void> {
  await migration.cancel().catch(() => {});
  await ingest.stop();
  stream.remove();
}

/** @param onlyLooks as of a `MigrationWay` */
export async function begin(
  { client, domain, name, streamDir, crew, terms }: Beginning,
  disks: SourceDisks | undefined,
  onFailure: (error: GodwitError) => void,
  onlyLooks = false,
): Promise<Begun> {
  const stream = new StreamSocket(path.join(streamDir, `${name}.libvirt`));
  const end = new SharedArrayBuffer(4);
  const data: IngestData = { path: stream.listenPath, end };
  const ingest = crew.begin<IngestRequests>(INGEST, data, onFailure);
  try {
    await ingest.request('listen', undefined);
    const way = { path: stream.path, disksPath: disks?.path, onlyLooks };
    const migration = await LibvirtMigration.begin(client, domain, way, terms);
    return { migration, ingest, stream, end };
  } catch (error) {
    await ingest.stop();
    stream.remove();
    throw error;
  }
}

/**
 * Up to QEMU's list of RAM blocks; from there on it is not to stop the guest by itself.
 * @param limitMs undefined: as long as it takes
 */
export async function firstBytes(
  { ingest, migration, stream }: Begun,
  failure: Promise<never>,
  name: string,
  limitMs?: number,
): Promise<Prologue> {
  const late = () => new GodwitError('not-seen', `QEMU of guest ${name} does not migrate`);
  const heard = Promise.race([ingest.request('prologue', undefined), failure]);
  const prologue = await (limitMs === undefined ? heard : within(limitMs, heard, late));
  stream.remove();
  await migration.restrain();
  return prologue;
}
