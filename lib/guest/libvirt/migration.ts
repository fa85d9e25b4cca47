import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { within } from '../../poll.ts';
import type { DomainTerms, StorageCopy } from '../hypervisor.ts';
import { cookieFor, INGEST_CAPABILITIES, readCookie } from './cookie.ts';
import { uuidText } from './domain-process.ts';
import type { LibvirtClient, MigrateParameters } from './rpc/client.ts';
import { type DomainRef, MIGRATE } from './rpc/procedures.ts';

/** A pass shorter than this ends the passes, ms; the least that there is. */
const SHORTEST_DOWNTIME_MS = 1;
/** The longest that there is, ms: QEMU stops the guest whatever is left. */
const LONGEST_DOWNTIME_MS = 2_000_000;
/** libvirt hears of QEMU's end of a migration at once; a machine under load gets more. */
const END_LIMIT_MS = 15_000;

const MIGRATE_FLAGS = MIGRATE.live | MIGRATE.changeProtection;
const NO_DISKS: ReadonlyMap<string, number> = new Map();

/** Flags of every call of a migration. */
export function migrateFlags(storage: StorageCopy | undefined): number {
  if (storage === undefined) return MIGRATE_FLAGS;
  return MIGRATE_FLAGS | (storage === 'all' ? MIGRATE.nonSharedDisk : MIGRATE.nonSharedInc);
}

/** Where an outgoing migration is to go. */
export interface MigrationWay {
  /** Of the Unix socket that it will migrate to. */
  readonly path: string;
  /** Of the Unix socket for its disks, where they are copied. */
  readonly disksPath?: string | undefined;
  /** It is not to come to an end, and its disks do not matter. */
  readonly onlyLooks?: boolean;
}

/** The outgoing migration of a domain, which its libvirt makes for us: Begin3 to Confirm3. */
export class LibvirtMigration {
  readonly #client: LibvirtClient;
  readonly #domain: DomainRef;
  readonly #parameters: MigrateParameters;
  readonly #flags: number;
  readonly xml: string;
  readonly cookie: string;
  /** Its QEMU lets us say when it may stop the guest (8.1 and later). */
  readonly canHold: boolean;
  /** Resolves with whether QEMU has given the guest up; undefined before Perform3. */
  #performed: Promise<GodwitError | undefined> | undefined;
  #ended = false;

  private constructor(
    client: LibvirtClient,
    domain: DomainRef,
    parameters: MigrateParameters,
    flags: number,
    begun: { readonly cookie: Buffer; readonly xml: string },
  ) {
    this.#client = client;
    this.#domain = domain;
    this.#parameters = parameters;
    this.#flags = flags;
    this.xml = begun.xml;
    this.cookie = begun.cookie.toString('utf8');
    this.canHold = readCookie(this.cookie).canHold;
  }

  /**
   * From here on nobody else changes the domain, until the client is closed or the migration has ended.
   * @throws GodwitError hypervisor-failed with libvirt's words
   */
  static async begin(
    client: LibvirtClient,
    domain: DomainRef,
    { path, disksPath, onlyLooks = false }: MigrationWay,
    {
      destName: destination_name = domain.name,
      destXml: destination_xml,
      copyStorage,
    }: DomainTerms,
  ) {
    const disks = disksPath === undefined ? {} : { disks_uri: `unix://${disksPath}` };
    const parameters = { migrate_uri: `unix://${path}`, destination_name, ...disks };
    const storage = disksPath === undefined ? undefined : copyStorage;
    const flags = migrateFlags(storage) | (onlyLooks ? MIGRATE.unsafe : 0);
    // Libvirt compares it with what the guest sees of its domain, and answers with it.
    const given = destination_xml === undefined ? parameters : { ...parameters, destination_xml };
    const begun = await client.begin(domain, given, flags);
    return new LibvirtMigration(client, domain, parameters, flags, begun);
  }

  /** Has QEMU migrate to the socket. `onFailure` hears why it did not, or not to its end. */
  start(onFailure: (error: GodwitError) => void): void {
    const { name, uuid } = this.#domain;
    const disks = 'disks_uri' in this.#parameters ? NO_DISKS : undefined;
    const end = { name, uuid: uuidText(uuid), capabilities: INGEST_CAPABILITIES, disks };
    this.#performed = this.#client
      .perform(this.#domain, this.#parameters, cookieFor(end), this.#flags)
      .then(
        () => undefined,
        (error: GodwitError) => {
          onFailure(error);
          return error;
        },
      )
      .finally(() => {
        this.#ended = true;
      });
  }

  /** Keeps a QEMU that does not ask before it stops the guest from doing so, as far as that goes. */
  async restrain(): Promise<void> {
    await this.#client.setMaxDowntime(this.#domain, SHORTEST_DOWNTIME_MS);
  }

  /** Lets QEMU stop the guest whatever is left to be sent. */
  async force(): Promise<void> {
    await this.#client.setMaxDowntime(this.#domain, LONGEST_DOWNTIME_MS);
  }

  /** Pages that QEMU has still to send; undefined before its first pass. */
  async pendingPages(): Promise<number | undefined> {
    const { memory_remaining: bytes } = await this.#client.jobStats(this.#domain);
    return typeof bytes === 'number' ? Math.ceil(bytes / PAGE_SIZE) : undefined;
  }

  /** Whether QEMU has given the guest up. @throws GodwitError hypervisor-failed when that does not show */
  async isThrough(): Promise<boolean> {
    return this.#performed !== undefined && (await this.#end()) === undefined;
  }

  /** Why QEMU did not give the guest up. @throws GodwitError hypervisor-failed when that does not show */
  async complaint(): Promise<string | undefined> {
    return (await this.#end())?.message;
  }

  #end(): Promise<GodwitError | undefined> {
    const late = () =>
      new GodwitError('hypervisor-failed', "libvirt does not say how the guest's migration ended");
    return within(END_LIMIT_MS, Promise.resolve(this.#performed), late);
  }

  /** Ends it if it is under way; QEMU then resumes the guest that it had suspended. */
  async cancel(): Promise<void> {
    if (this.#performed === undefined || this.#ended) return;
    await this.#client.abortJob(this.#domain).catch(() => {}); // it may just have ended
    await this.isThrough();
  }

  /** After it is through: the guest goes, or runs again here. */
  async confirm(cancelled: boolean): Promise<void> {
    await this.#client.confirm(this.#domain, this.#parameters, this.#flags, cancelled);
  }
}
