import { GodwitError } from '../../../errors.ts';
import { QEMU_PROGRAM } from './message.ts';
import {
  DIRTY_RATE_STATS,
  type DomainEvent,
  type DomainRef,
  EVENT,
  FAIL_INCOMPATIBLE,
  ofDomain,
  type Parameters,
  PROCEDURE,
  QEMU_PROCEDURE,
  readDomain,
  readDomains,
  readParameters,
  UNDEFINE,
  writeDomain,
  writeParameters,
  XML,
} from './procedures.ts';
import { RpcSession } from './session.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

/** libvirtd answers in milliseconds; it waits up to 30 s for another job of the same domain to end. */
const CALL_LIMIT_MS = 40_000;
const CONNECT_LIMIT_MS = 5_000;
/** libvirt starts a QEMU, and may have to find out first what it can do: 4 s were seen. */
const PREPARE_LIMIT_MS = 120_000;
/** libvirt asks a QEMU to end for 15 s, and then kills it for as long. */
const END_LIMIT_MS = 45_000;

const URI = 'qemu:///system';
/** Since 8.9 a domain's TPM is asked about when it is undefined. */
const KNOWS_TPM = 8_009_000;
/** Since 11.1 the disks of a guest that has arrived paused are made active, where its QEMU (since 10.0) knows how. */
const ACTIVATES_DISKS = 11_001_000;
/** Of the ways to authenticate: none. */
const AUTH_NONE = 0;
const MAX_AUTH_TYPES = 20;

export interface ClientLimits {
  readonly connectMs?: number;
  readonly callMs?: number;
}

/** What runs a domain. */
export interface Emulation {
  /** Undefined: the one that libvirt takes. */
  readonly emulator: string | undefined;
  readonly arch: string;
  readonly machine: string;
  /** As `kvm`. */
  readonly virtType: string;
}

/** What belongs to the whole of a migration: virMigrateParam. */
export type MigrateParameters = Readonly<Record<string, string>>;

/**
 * A client of a host's own libvirtd or virtqemud, by its RPC over its Unix socket. What belongs to a
 * client (change protection, what Prepare3 has made) ends with its connection. Calls reject as
 * those of `RpcSession`.
 */
export class LibvirtClient {
  readonly #session: RpcSession;
  readonly #callMs: number;
  #version = 0;

  private constructor(session: RpcSession, callMs: number) {
    this.#session = session;
    this.#callMs = callMs;
  }

  /**
   * Connects, and opens the system's QEMU domains.
   * @throws GodwitError hypervisor-failed when nobody listens or this user is not let in; not-seen when
   *   it does not answer in time
   */
  static async connect(path: string, limits: ClientLimits = {}): Promise<LibvirtClient> {
    const { connectMs = CONNECT_LIMIT_MS, callMs = CALL_LIMIT_MS } = limits;
    const session = await RpcSession.connect(path, connectMs);
    const client = new LibvirtClient(session, callMs);
    try {
      await client.#enter(connectMs);
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  get path(): string {
    return this.#session.path;
  }

  /** As `RpcSession.onEvent`, once `listen` was called. */
  onEvent(listener: (event: DomainEvent) => void): () => void {
    return this.#session.onEvent(listener);
  }

  /** As `RpcSession.onClose`. */
  onClose(listener: (error: GodwitError) => void): void {
    this.#session.onClose(listener);
  }

  /** Of the daemon: `11.3.0`, which it tells as 11003000. */
  get version(): string {
    const [major, minor, release] = [1e6, 1e3, 1].map((unit) => Math.floor(this.#version / unit));
    return `${major}.${minor! % 1000}.${release! % 1000}`;
  }

  close(): void {
    this.#session.close();
  }

  // ---- domains -------------------------------------------------------------

  /** Rejects when no domain can be run so on this host. */
  async requireEmulation(emulation: Emulation): Promise<void> {
    await this.#call(PROCEDURE.domainCapabilities, ofEmulation(emulation).int(0), PREPARE_LIMIT_MS);
  }

  /** Rejects, naming what is missing, when a domain that is run so on this host cannot have that CPU. */
  async requireCpu(emulation: Emulation, cpuXml: string): Promise<void> {
    const args = ofEmulation(emulation).string(cpuXml).int(FAIL_INCOMPATIBLE);
    await this.#call(PROCEDURE.compareCpu, args, PREPARE_LIMIT_MS);
  }

  /** All that run and all that are defined. */
  list(): Promise<DomainRef[]> {
    return this.#ask(PROCEDURE.listAll, new XdrWriter().int(1).int(0), readDomains);
  }

  lookup(name: string): Promise<DomainRef> {
    return this.#ask(PROCEDURE.lookupByName, new XdrWriter().string(name), readDomain);
  }

  lookupUuid(uuid: Uint8Array): Promise<DomainRef> {
    return this.#ask(PROCEDURE.lookupByUuid, new XdrWriter().fixed(uuid), readDomain);
  }

  /** virDomainState and its reason. */
  state(domain: DomainRef): Promise<{ readonly state: number; readonly reason: number }> {
    return this.#ask(PROCEDURE.state, ofDomain(domain).int(0), (reader) => {
      return { state: reader.int(), reason: reader.int() };
    });
  }

  /** Bytes of memory that it has at most, without video memory and firmware. */
  memoryBytes(domain: DomainRef): Promise<number> {
    return this.#ask(PROCEDURE.info, ofDomain(domain), (reader) => {
      reader.int(); // its state
      return Number(reader.unsignedHyper()) * 1024;
    });
  }

  /** Bytes that a disk holds, by its name. */
  diskBytes(domain: DomainRef, target: string): Promise<number> {
    const args = ofDomain(domain).string(target).int(0);
    return this.#ask(PROCEDURE.blockInfo, args, (reader) => Number(reader.unsignedHyper()));
  }

  /** As its QEMU has it now. */
  xml(domain: DomainRef, flags = 0): Promise<string> {
    return this.#ask(PROCEDURE.xml, ofDomain(domain).int(flags), (reader) => reader.string());
  }

  /** What it is to be when it is started the next time; of one that nobody has defined, what it is. */
  definition(domain: DomainRef): Promise<string> {
    return this.xml(domain, XML.inactive | XML.secure | XML.migratable);
  }

  /** Whether it is defined. */
  isPersistent(domain: DomainRef): Promise<boolean> {
    return this.#ask(PROCEDURE.isPersistent, ofDomain(domain), (reader) => reader.int() === 1);
  }

  /** Keeps what is to be of a domain when it does not run; one that runs goes on as it is. */
  async define(xml: string): Promise<void> {
    await this.#call(PROCEDURE.defineXml, new XdrWriter().string(xml));
  }

  /** Keeps nothing of a domain but the files of its devices, as a migration does that undefines. */
  async undefine(domain: DomainRef): Promise<void> {
    const { snapshots, checkpoints, keepNvram, keepTpm } = UNDEFINE;
    const tpm = this.#version >= KNOWS_TPM ? keepTpm : 0;
    const flags = snapshots | checkpoints | keepNvram | tpm;
    await this.#call(PROCEDURE.undefineFlags, ofDomain(domain).int(flags));
  }

  async suspend(domain: DomainRef): Promise<void> {
    await this.#call(PROCEDURE.suspend, ofDomain(domain));
  }

  async resume(domain: DomainRef): Promise<void> {
    await this.#call(PROCEDURE.resume, ofDomain(domain));
  }

  /** Starts a domain that is defined. */
  async create(domain: DomainRef): Promise<void> {
    await this.#call(PROCEDURE.create, ofDomain(domain), PREPARE_LIMIT_MS);
  }

  /** Starts a domain that nobody has to define. */
  async createXml(xml: string): Promise<void> {
    await this.#call(PROCEDURE.createXml, new XdrWriter().string(xml).int(0), PREPARE_LIMIT_MS);
  }

  /** Has the guest told to shut itself down; whether it does is its own affair. */
  async shutdown(domain: DomainRef): Promise<void> {
    await this.#call(PROCEDURE.shutdown, ofDomain(domain));
  }

  /** Ends its QEMU. */
  async destroy(domain: DomainRef): Promise<void> {
    await this.#call(PROCEDURE.destroy, ofDomain(domain), END_LIMIT_MS);
  }

  /** Has libvirtd tell, of all domains, when they stop and go on, and how their migrations go. */
  async listen(): Promise<void> {
    for (const { id } of Object.values(EVENT))
      await this.#call(PROCEDURE.listen, new XdrWriter().int(id).int(0));
  }

  /** Has QEMU measure for some seconds how much of the guest's memory changes, by a sample. Libvirt 7.2 or later. */
  async startDirtyRate(domain: DomainRef, seconds: number): Promise<void> {
    await this.#call(PROCEDURE.startDirtyRate, ofDomain(domain).int(seconds).int(0));
  }

  /** What has come of it: parameters that begin with `dirtyrate.`. */
  dirtyRate(domain: DomainRef): Promise<Parameters> {
    const args = writeDomain(new XdrWriter().int(1), domain).int(DIRTY_RATE_STATS).int(0);
    return this.#ask(PROCEDURE.allStats, args, (reader) => {
      if (reader.count(1) === 0) return {};
      readDomain(reader);
      return readParameters(reader);
    });
  }

  // ---- the migration of one ------------------------------------------------

  /** What is known of the job that runs; empty when none does. */
  jobStats(domain: DomainRef): Promise<Parameters> {
    return this.#ask(PROCEDURE.jobStats, ofDomain(domain).int(0), (reader) => {
      reader.int(); // virDomainJobType
      return readParameters(reader);
    });
  }

  async abortJob(domain: DomainRef): Promise<void> {
    await this.#call(PROCEDURE.abortJob, ofDomain(domain));
  }

  async setMaxDowntime(domain: DomainRef, ms: number): Promise<void> {
    await this.#call(PROCEDURE.setMaxDowntime, ofDomain(domain).hyper(ms).int(0));
  }

  /** The source's domain as XML, and a cookie for Prepare3. */
  begin(
    domain: DomainRef,
    parameters: MigrateParameters,
    flags: number,
  ): Promise<{ readonly cookie: Buffer; readonly xml: string }> {
    const args = writeParameters(ofDomain(domain), parameters).int(flags);
    return this.#ask(PROCEDURE.begin3, args, (reader) => {
      return { cookie: reader.opaque(), xml: reader.string() };
    });
  }

  /** Has a QEMU wait for the guest. It goes with this connection, until Finish3. */
  async prepare(parameters: MigrateParameters, cookie: Buffer, flags: number): Promise<void> {
    const args = writeParameters(new XdrWriter(), parameters).opaque(cookie).int(flags);
    await this.#call(PROCEDURE.prepare3, args, PREPARE_LIMIT_MS);
  }

  /** The migration itself: it resolves when QEMU has given the guest up, whenever that is. */
  async perform(
    domain: DomainRef,
    parameters: MigrateParameters,
    cookie: Buffer,
    flags: number,
  ): Promise<void> {
    const args = writeParameters(ofDomain(domain).optionalString(undefined), parameters);
    const limit = Number.POSITIVE_INFINITY;
    await this.#call(PROCEDURE.perform3, args.opaque(cookie).int(flags), limit);
  }

  /** QEMU has loaded the guest, which is a domain like any other from here on. */
  finish(parameters: MigrateParameters, cookie: Buffer, flags: number): Promise<DomainRef> {
    const args = writeParameters(new XdrWriter(), parameters).opaque(cookie).int(flags).int(0);
    return this.#ask(PROCEDURE.finish3, args, readDomain);
  }

  /**
   * Has the QEMU of a guest that has arrived paused let go of its disks, whose locks (of QEMU's own)
   * its source needs to run again. It takes them when it runs.
   * @throws GodwitError hypervisor-failed when it does not
   */
  async releaseDisks(domain: DomainRef): Promise<void> {
    if (this.#version < ACTIVATES_DISKS) return;
    const command = { execute: 'blockdev-set-active', arguments: { active: false } };
    const args = ofDomain(domain).string(JSON.stringify(command)).int(0);
    const { monitorCommand } = QEMU_PROCEDURE;
    const reply = await this.#session.call(monitorCommand, args, this.#callMs, QEMU_PROGRAM);
    const { error } = JSON.parse(new XdrReader(reply).string()) as {
      error?: { readonly class?: string; readonly desc?: string };
    };
    if (error === undefined || error.class === 'CommandNotFound') return;
    throw new GodwitError('hypervisor-failed', `it keeps its disks: ${error.desc}`);
  }

  /** The end of a Perform3 that went through: what is left of the guest goes, or, cancelled, runs again. */
  async confirm(
    domain: DomainRef,
    parameters: MigrateParameters,
    flags: number,
    cancelled: boolean,
  ): Promise<void> {
    const args = writeParameters(ofDomain(domain), parameters).opaque(Buffer.alloc(0)).int(flags);
    await this.#call(PROCEDURE.confirm3, args.int(cancelled ? 1 : 0), END_LIMIT_MS);
  }

  async #enter(limitMs: number): Promise<void> {
    const readTypes = (reader: XdrReader) =>
      Array.from({ length: reader.count(MAX_AUTH_TYPES) }, () => reader.int());
    const types = await this.#ask(PROCEDURE.authList, new XdrWriter(), readTypes, limitMs);
    if (!types.includes(AUTH_NONE)) {
      const text = `libvirtd at ${this.path} wants this user to authenticate: run the agent as root, or let its group in (unix_sock_group and auth_unix_rw of libvirtd.conf)`;
      throw new GodwitError('hypervisor-failed', text);
    }
    await this.#call(PROCEDURE.open, new XdrWriter().optionalString(URI).int(0), limitMs);
    const readNumber = (reader: XdrReader) => Number(reader.unsignedHyper());
    this.#version = await this.#ask(PROCEDURE.libVersion, new XdrWriter(), readNumber, limitMs);
  }

  async #ask<T>(
    procedure: number,
    args: XdrWriter,
    read: (reader: XdrReader) => T,
    limitMs = this.#callMs,
  ): Promise<T> {
    return read(new XdrReader(await this.#call(procedure, args, limitMs)));
  }

  #call(procedure: number, args: XdrWriter, limitMs = this.#callMs): Promise<Buffer> {
    return this.#session.call(procedure, args, limitMs);
  }
}

function ofEmulation({ emulator, arch, machine, virtType }: Emulation): XdrWriter {
  const writer = new XdrWriter();
  for (const one of [emulator, arch, machine, virtType]) writer.optionalString(one);
  return writer;
}
