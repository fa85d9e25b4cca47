import { mkdirSync } from 'node:fs';
import type { Crew, Task } from '../../crew/crew.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { GuestLayout } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import { within } from '../../poll.ts';
import type { CopiedDisks, GuestDescription, Published, PushingGuest } from '../guest.ts';
import type { BootProcess, FoundPlace } from '../handle.ts';
import type { DomainTerms } from '../hypervisor.ts';
import type { IngestRequests, Prologue } from '../push/ingest-protocol.ts';
import { Passes } from '../push/passes.ts';
import { StreamEnd } from '../push/stream-end.ts';
import { notTakenUp, STOP_LIMIT_MS, stoppedBefore, TAKE_UP_LIMIT_MS } from '../qemu/cutover.ts';
import { regionsOf } from '../qemu/device-model.ts';
import { runStateOf } from '../qemu/run-state.ts';
import type { RecallPlace } from '../recall/recall-protocol.ts';
import { movable, type RunState } from '../run-state.ts';
import { LibvirtCopy } from './copy.ts';
import { deviceModelOf, HYPERVISOR } from './device-model.ts';
import { processOf, uuidText } from './domain-process.ts';
import { Life } from './life.ts';
import type { LibvirtMigration } from './migration.ts';
import {
  type Begun,
  begin,
  disksToCopy,
  firstBytes,
  giveUp,
  type LibvirtSourcePlace,
  lookAtMemory,
  PROLOGUE_LIMIT_MS,
} from './opening.ts';
import { LibvirtClient } from './rpc/client.ts';
import type { DomainRef } from './rpc/procedures.ts';
import { lookAtDomain } from './run-state.ts';
import type { SourceDisks } from './source-disks.ts';

/**
 * The guest of a libvirt domain, for migrating it away: libvirt has its QEMU migrate into a socket of
 * ours, where it waits with its first page. Libvirt copies disks before that, and those need a
 * destination, which needs to know of the guest's memory: then a first migration is begun for its list of
 * RAM blocks alone, and the real one with the copy.
 * @throws GodwitError guest-not-running, hypervisor-failed, not-seen, qemu-stream
 */
export async function connectLibvirtSource(
  place: LibvirtSourcePlace,
  crew: Crew,
): Promise<PushingGuest> {
  const client = await LibvirtClient.connect(place.socket);
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  let begun: Begun | undefined;
  let disks: SourceDisks | undefined;
  try {
    await client.listen();
    const domain = await client.lookup(place.name);
    const life = new Life(client, domain);
    const state = await lookAtDomain(client, domain);
    if (state === undefined) throw notRunning(place.name);
    const found = movable(place.name, state);
    if (found === 'paused') life.stands();
    const process = processOf(place.socket, domain);
    mkdirSync(place.streamDir, { recursive: true, mode: 0o700 });
    const beginning = { ...place, client, domain, crew };
    disks = await disksToCopy(beginning);
    let prologue = disks && (await lookAtMemory(beginning));
    begun = await begin(beginning, disks, failure.reject);
    const definition = await definitionFor(place.terms, begun.migration, client, domain);
    if (prologue === undefined) {
      begun.migration.start(failure.reject);
      prologue = await firstBytes(begun, failure.promise, place.name, PROLOGUE_LIMIT_MS);
    }
    const known = { ...place, client, domain, process, found, life, definition };
    return new LibvirtSource({ ...known, ...begun, disks, failure, prologue });
  } catch (error) {
    if (begun !== undefined) await giveUp(begun);
    disks?.remove();
    client.close();
    throw error;
  }
}

/** What its destination is to keep of it: that which is kept here, unless it is to be another one there. */
async function definitionFor(
  { persistent, destXml }: DomainTerms,
  { xml }: LibvirtMigration,
  client: LibvirtClient,
  domain: DomainRef,
): Promise<string | undefined> {
  if (!persistent) return undefined;
  return destXml === undefined ? client.definition(domain) : xml;
}

interface Parts extends LibvirtSourcePlace, Begun {
  readonly client: LibvirtClient;
  readonly domain: DomainRef;
  readonly process: BootProcess;
  readonly found: 'running' | 'paused';
  readonly life: Life;
  readonly definition: string | undefined;
  readonly disks: SourceDisks | undefined;
  /** Rejects when the stream ends or holds what it should not, and when libvirt gives up. */
  readonly failure: PromiseWithResolvers<never>;
  readonly prologue: Prologue;
}

class LibvirtSource extends LibvirtCopy implements PushingGuest {
  readonly pages = 'pushed';
  readonly description: GuestDescription;
  readonly deviceStateBytes = undefined;
  readonly recallPlace: RecallPlace;
  readonly disks: CopiedDisks | undefined;
  readonly #parts: Parts;
  readonly #migration: LibvirtMigration;
  readonly ingest: Task<IngestRequests>;
  readonly #life: Life;
  /** Resolves when the guest stands for the migration, or did before. */
  readonly #stopped = Promise.withResolvers<void>();
  readonly #pfnEnd: number;
  readonly #passes = new Passes(() => this.pendingPages());
  #deathListener: ((error: Error) => void) | undefined;
  #stopListener: ((state: RunState) => void) | undefined;
  #ownSuspension: (() => void) | undefined;
  #toldToStop = false;
  /** Pages that it had still to send when it was told to stop the guest. */
  #owed: number | undefined;
  /** QEMU sends the last pages, and answers nothing meanwhile. */
  #cutOver = false;
  /** QEMU has given the guest up. */
  #through = false;
  /** It was stopped by somebody else. */
  #stoppedAs: RunState | undefined;
  #takeUp: NodeJS.Timeout | undefined;
  #left: Promise<void> | undefined;
  readonly #streamEnd: StreamEnd;
  /** Its stream is read. */
  #reads = true;
  /** Nothing is wanted for a while. */
  #resting = false;

  constructor(parts: Parts) {
    const { client, domain, process, found, life, migration, ingest, end, failure } = parts;
    const { name, socket, terms, definition } = parts;
    const place: FoundPlace = {
      kind: HYPERVISOR,
      ...{ guest: name, socket, uuid: uuidText(domain.uuid), process, ram: [] },
      ...(terms.undefineSource ? { undefine: true } : {}),
    };
    super(client, domain, found === 'paused' ? { ...place, paused: true } : place);
    const { machine, bytes, blocks } = parts.prologue;
    const regions = regionsOf(blocks);
    const { xml, cookie } = migration;
    const prologue = { machine, prologue: Buffer.from(bytes) };
    const storage = parts.disks && terms.copyStorage;
    const deviceModel = deviceModelOf({ xml, cookie, definition, storage }, prologue);
    const { destName } = terms;
    this.description = { name, destName, hypervisor: HYPERVISOR, deviceModel, regions };
    this.#pfnEnd = new GuestLayout(regions).pfnEnd;
    this.#stoppedAs = found === 'paused' ? found : undefined;
    this.#parts = parts;
    this.disks = parts.disks && this.#copying(parts.disks);
    this.#migration = migration;
    this.ingest = ingest;
    this.recallPlace = { kind: 'qemu', end };
    this.#streamEnd = new StreamEnd(end);
    this.#life = life;
    client.onEvent((event) => {
      const isOurs = event.domain.uuid.equals(domain.uuid);
      if (event.type === 'iteration' && isOurs)
        void this.#passes.begins(event.iteration, !this.#cutOver);
    });
    failure.promise.catch((error) => this.#streamFailed(asGodwitError(error)));
    this.#stopped.promise.catch(() => {});
    life.listen({
      stop: () => this.#hasStopped(),
      resume: () => {
        this.#cutOver = false;
        this.#stoppedAs = undefined;
      },
      gone: () => this.#fail(new GodwitError('guest-died', `libvirt has ended guest ${name}`)),
    });
    client.onClose((error) => this.#fail(error));
    if (life.stopped && !this.#stoppedAs) this.#hasStopped();
  }

  get arrives(): 'running' | 'paused' {
    return this.#standsAs === 'paused' ? 'paused' : 'running';
  }

  /** From the cutover on it is known: QEMU would not answer. */
  override async state(): Promise<RunState> {
    const state = this.#cutOver ? 'migrated' : await super.state();
    return state === 'migrated' ? (this.#standsAs ?? state) : state;
  }

  /** What it stands for besides the migration. */
  get #standsAs(): RunState | undefined {
    return this.#life.reason ?? this.#stoppedAs;
  }

  #copying(disks: SourceDisks): CopiedDisks {
    const { socket, bytes } = disks;
    return {
      ...{ socket, bytes, copy: () => this.#copy(disks), progress: () => disks.progress() },
      onEnd: (listener) => disks.onEnd(listener),
    };
  }

  /** Libvirt has its QEMU migrate when its disks are copied. */
  async #copy(disks: SourceDisks): Promise<void> {
    const { name, process, migration, failure, prologue } = this.#parts;
    disks.giveTo(process);
    migration.start(failure.reject);
    const { bytes } = await firstBytes(this.#parts, failure.promise, name);
    disks.remove();
    if (Buffer.compare(bytes, prologue.bytes) === 0) return;
    const text = `guest ${name} has other memory than when its move began`;
    throw new GodwitError('hypervisor-failed', text);
  }

  get pass(): PushingGuest['pass'] {
    return this.#passes.current;
  }

  onPass(listener: () => void): void {
    this.#passes.listen(listener);
  }

  onOwnSuspension(listener: () => void): void {
    this.#ownSuspension = listener;
    if (this.#takeUp !== undefined) listener();
  }

  onStopped(listener: (state: RunState) => void): void {
    this.#stopListener = listener;
    // One that was found paused has not stopped.
    if (this.#life.stopped && !this.#stoppedAs) void this.#tellStopped();
  }

  onDeath(listener: (error: Error) => void): void {
    this.#deathListener = listener;
  }

  async startPushing(rings: readonly SharedArrayBuffer[]): Promise<void> {
    await this.ingest.request('read', { regions: this.description.regions, rings });
  }

  /**
   * QEMU waits for our word before it stops the guest, if it can; but it looks at its dirty log again and
   * again meanwhile, and libvirt tells of each time. So it is not read from until it is to go on.
   */
  async hold(): Promise<void> {
    if (this.#cutOver || !this.#reads) return;
    this.#reads = false;
    await this.ingest.request('reading', false);
  }

  async rest(): Promise<void> {
    this.#resting = true;
    await this.hold();
  }

  async goOn(): Promise<void> {
    this.#resting = false;
    if (this.#reads) return;
    this.#reads = true;
    await this.ingest.request('reading', true);
  }

  get slow(): boolean {
    return this.#resting;
  }

  /** After the cutover, what was pending just before. */
  async pendingPages(): Promise<number> {
    if (this.#cutOver) return this.#owed ?? this.#passes.current.dirtyPages;
    return (await this.#migration.pendingPages()) ?? 0;
  }

  async publish(round: number): Promise<Published> {
    const { chunks, pages } = await this.ingest.request('publish', round);
    return { chunks, pages: new PageSet(this.#pfnEnd, pages) };
  }

  async pushedAll(): Promise<void> {
    await this.ingest.request('ramEnded', undefined);
  }

  stopPushing(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  /**
   * QEMU sends what is left and waits with the rest of its life for our word. A guest that stands
   * already is not stopped again.
   */
  override async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    const toldMs = performance.now();
    this.#toldToStop = true;
    clearTimeout(this.#takeUp);
    const stood = this.#life.stopped;
    await this.goOn();
    // The last time that it can be asked; while it is not read from it may never answer.
    if (!stood) this.#owed = await this.#migration.pendingPages();
    await this.#migration.force();
    if (this.#migration.canHold) await this.ingest.request('allowSwitchover', undefined);
    const late = () =>
      new GodwitError('hypervisor-failed', 'QEMU did not stop the guest when it was told to');
    if (!stood) await within(STOP_LIMIT_MS, this.#stopped.promise, late);
    this.#cutOver = true;
    const atMost = stood ? TAKE_UP_LIMIT_MS : performance.now() - toldMs;
    onStop?.(Math.min(this.#life.agoMs, atMost));
    return this.#standsAs ?? 'migrated';
  }

  async saveInto(spool: StateSpool): Promise<void> {
    await this.ingest.request('saveInto', spool.share);
  }

  /** What QEMU stopped is in it: whether the guest ran until the migration stopped it. */
  async saveDeviceState(): Promise<number> {
    const { bytes, before } = await this.ingest.request('saved', undefined);
    if (before !== undefined && before !== 'running' && !this.#standsAs) {
      this.#stoppedAs = runStateOf(before);
      throw stoppedBefore(this.description.name, this.#stoppedAs);
    }
    return bytes;
  }

  /** Without an end to its migration QEMU would resume the guest when this agent dies. */
  override async seal(): Promise<Uint8Array> {
    await this.ingest.request('shut', undefined);
    this.#through = await this.#migration.isThrough();
    if (this.#through) return new Uint8Array(0);
    const why = await this.#migration.complaint();
    throw new GodwitError('hypervisor-failed', `QEMU did not give the guest up: ${why}`);
  }

  /**
   * QEMU undoes a migration that is ended before its last word, and libvirt sees it do so. After that
   * word libvirt has to be told that the guest is to run here after all.
   */
  override async resume(): Promise<RunState> {
    this.#parts.disks?.end();
    await this.ingest.stop();
    await this.#migration.cancel();
    this.#through ||= await this.#migration.isThrough();
    this.#cutOver = false;
    // What Confirm3 does not do is done to a domain that is paused like any other.
    if (this.#through && this.#standsAs === undefined)
      await this.#migration.confirm(true).catch(() => {});
    const state = await this.state();
    return state === 'migrated' || state === 'paused' ? super.resume() : state;
  }

  /** Libvirt ends what it has given away, and whatever goes with it. */
  override async destroy(): Promise<void> {
    if (this.#through) await this.#migration.confirm(false).catch(() => {});
    await super.destroy();
  }

  override close(): void {
    void this.stopPushing()
      .catch(() => {}) // gone with QEMU
      .then(() => super.close());
  }

  /** Whatever is under way ends, and the guest runs on unless it was given up. */
  async #leave(): Promise<void> {
    clearTimeout(this.#takeUp);
    try {
      this.#parts.disks?.end();
      if (this.#cutOver) await this.ingest.stop(); // it hears nothing else
      await this.#migration.cancel();
    } finally {
      await this.ingest.stop();
      this.#parts.stream.remove();
    }
  }

  /**
   * The cutover, or a stop that has nothing to do with the migration. A QEMU that cannot be held back
   * from the cutover is asked which, and answers only when it was not that.
   */
  #hasStopped(): void {
    this.#stopped.resolve();
    const mayBeCutover = this.#life.reason === undefined && this.#mayCutOver;
    this.#cutOver = mayBeCutover;
    if (!mayBeCutover || !this.#toldToStop) void this.#tellStopped();
    if (!mayBeCutover || this.#toldToStop) return;
    this.#takeUp ??= setTimeout(() => this.#fail(notTakenUp()), TAKE_UP_LIMIT_MS);
    this.#ownSuspension?.();
  }

  /** QEMU may stop the guest for its migration. */
  get #mayCutOver(): boolean {
    return this.#toldToStop || !this.#migration.canHold;
  }

  /**
   * Tells what the guest does, unless it stands for the migration or runs again. A domain that
   * somebody pauses while it is moved stands for its migration, as libvirt says it.
   */
  async #tellStopped(): Promise<void> {
    if (this.#cutOver) return;
    const seen = this.#life.reason ?? (await super.state().catch(() => 'running' as const));
    const state = seen === 'migrated' ? 'paused' : seen;
    if (state === 'running' || this.#left) return;
    this.#stoppedAs ??= state;
    this.#stopListener?.(state);
  }

  async #streamFailed(error: GodwitError): Promise<void> {
    this.#stopped.reject(error);
    const complaint = await this.#migration.complaint().catch(() => undefined);
    if (this.#left || this.#streamEnd.isEnded) return; // it was us
    const words =
      complaint && complaint !== error.message ? `${error.message}: ${complaint}` : error.message;
    this.#fail(new GodwitError(error.code, words, { cause: error }));
  }

  #fail(error: GodwitError): void {
    if (!this.#left) this.#deathListener?.(error);
  }
}

function notRunning(name: string): GodwitError {
  const text = `guest ${name} is shut off; only a guest that runs or is paused can be moved`;
  return new GodwitError('guest-not-running', text);
}
