import { statSync } from 'node:fs';
import type { Crew, Task } from '../../crew/crew.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { GuestLayout, type RegionFile } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import { within } from '../../poll.ts';
import { mapsShared } from '../file-users.ts';
import type { GuestDescription, Published, PushingGuest } from '../guest.ts';
import type { IngestRequests } from '../push/ingest-protocol.ts';
import { Passes } from '../push/passes.ts';
import type { RecallPlace } from '../recall/recall-protocol.ts';
import type { RunState } from '../run-state.ts';
import { CarefulPass } from './careful-pass.ts';
import { QemuCopy } from './copy.ts';
import { notTakenUp, STOP_LIMIT_MS, stoppedBefore, TAKE_UP_LIMIT_MS } from './cutover.ts';
import type { GuestDefinition } from './definition.ts';
import { deviceModelOf, HYPERVISOR, regionsOf } from './device-model.ts';
import type { KeptSettings } from './kept-settings.ts';
import { type QemuMigration, STILL } from './migration.ts';
import { type Outgoing, openOutgoing } from './outgoing.ts';
import { runStateOf } from './run-state.ts';
import type { Stops } from './stops.ts';

/**
 * The QEMU guest of a definition, for migrating it away: QEMU migrates into a socket of ours and
 * waits with its first page.
 * @param kept what QEMU was set to before is kept there as long as it is changed
 * @throws GodwitError guest-not-running, guest-busy, hypervisor-failed, not-seen, qemu-stream
 */
export async function connectQemuSource(
  definition: GuestDefinition,
  crew: Crew,
  kept?: KeptSettings,
): Promise<PushingGuest> {
  return new QemuSource({ ...(await openOutgoing(definition, crew, kept)), definition });
}

interface QemuSourceParts extends Outgoing {
  readonly definition: GuestDefinition;
}

class QemuSource extends QemuCopy implements PushingGuest {
  readonly pages = 'pushed';
  readonly description: GuestDescription;
  readonly deviceStateBytes = undefined;
  readonly recallPlace: RecallPlace;
  readonly #migration: QemuMigration;
  readonly ingest: Task<IngestRequests>;
  readonly #stops: Stops;
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
  /** It was stopped by somebody else: QEMU tells of no reason. */
  #stoppedAs: RunState | undefined;
  #takeUp: NodeJS.Timeout | undefined;
  #left: Promise<void> | undefined;
  readonly #parts: Pick<QemuSourceParts, 'definition' | 'process'>;
  #keep: ((memory: readonly RegionFile[]) => void) | undefined;
  #carefulPass: CarefulPass | undefined;
  /** It has been slowed down, and its stream is not read. */
  #resting = false;

  constructor(parts: QemuSourceParts) {
    const { definition, qmp, process, found, cpu, stops, migration } = parts;
    const { ingest, end, failure, prologue } = parts;
    const { name, qmp: socket } = definition;
    const ram = definition.ram.map(({ file }) => file);
    const place = { kind: HYPERVISOR, guest: name, socket, process, ram };
    super(qmp, found === 'paused' ? { ...place, paused: true } : place);
    const regions = regionsOf(prologue.blocks);
    const { machine, bytes } = prologue;
    const deviceModel = deviceModelOf({ machine, cpu, prologue: Buffer.from(bytes) });
    this.description = { name, hypervisor: HYPERVISOR, deviceModel, regions };
    this.#pfnEnd = new GuestLayout(regions).pfnEnd;
    this.#stoppedAs = found === 'paused' ? found : undefined;
    this.#parts = { definition, process };
    this.#migration = migration;
    this.ingest = ingest;
    this.recallPlace = { kind: HYPERVISOR, end };
    this.#stops = stops;
    qmp.on('MIGRATION_PASS', ({ data }) => {
      void this.#passes.begins(Number(data?.pass), !this.#cutOver);
    });
    failure.promise.catch((error) => this.#streamFailed(asGodwitError(error)));
    this.#stopped.promise.catch(() => {});
    qmp.on('RESUME', () => {
      this.#cutOver = false;
      this.#stoppedAs = undefined;
    });
    stops.onStop(() => this.#hasStopped());
    if (stops.stopped && !this.#stoppedAs) this.#hasStopped();
  }

  get arrives(): 'running' | 'paused' {
    return this.#standsAs === 'paused' ? 'paused' : 'running';
  }

  /** From the cutover on it is known; QEMU would not answer. Undone, 7.2 has forgotten what it was before. */
  override async state(): Promise<RunState> {
    const state = this.#cutOver ? 'migrated' : await super.state();
    return state === 'migrated' ? (this.#standsAs ?? state) : state;
  }

  /** What it stands for besides the migration. */
  get #standsAs(): RunState | undefined {
    return this.#stops.reason ?? this.#stoppedAs;
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
    if (this.#stops.stopped && !this.#stoppedAs) void this.#tellStopped();
  }

  override onDeath(listener: (error: Error) => void): void {
    super.onDeath(listener);
    this.#deathListener = listener;
  }

  async startPushing(rings: readonly SharedArrayBuffer[]): Promise<void> {
    await this.ingest.request('read', { regions: this.description.regions, rings });
  }

  /** QEMU waits for our word before it stops the guest; one that cannot is not read from. */
  async hold(): Promise<void> {
    if (this.#carefulPass) await this.rest();
    else if (!this.#migration.canHold && !this.#cutOver)
      await this.ingest.request('reading', false);
  }

  /**
   * QEMU gets next to no bandwidth and is not read from. Our word alone would let it look at the dirty
   * log as fast as it can, ten thousand times a second; not reading alone stops it only when its
   * socket is full.
   */
  async rest(): Promise<void> {
    this.#endCarefulPass();
    if (this.#cutOver || this.#resting) return;
    this.#resting = true;
    await this.#migration.limitBandwidth(STILL);
    await this.ingest.request('reading', false);
  }

  async goOn(carefully: boolean): Promise<void> {
    const slowed = this.#resting || this.#carefulPass !== undefined;
    this.#endCarefulPass();
    this.#resting = false;
    if (carefully) {
      this.#carefulPass = new CarefulPass(this.#migration);
      await this.#carefulPass.begin();
    } else if (slowed) await this.#migration.limitBandwidth(0);
    if (slowed || carefully || !this.#migration.canHold) await this.ingest.request('reading', true);
  }

  get slow(): boolean {
    return this.#carefulPass?.slow ?? this.#resting;
  }

  #endCarefulPass(): void {
    this.#carefulPass?.stop();
    this.#carefulPass = undefined;
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
    const stood = this.#stops.stopped;
    await this.goOn(false);
    // The last time that it can be asked; while it is not read from it may never answer.
    if (!stood) this.#owed = await this.#migration.pendingPages();
    await this.#migration.force();
    if (this.#migration.canHold) await this.ingest.request('allowSwitchover', undefined);
    const late = () =>
      new GodwitError('hypervisor-failed', 'QEMU did not stop the guest when it was told to');
    if (!stood) await within(STOP_LIMIT_MS, this.#stopped.promise, late);
    this.#cutOver = true;
    // The clock of its host's people may be set meanwhile.
    const atMost = stood ? TAKE_UP_LIMIT_MS : performance.now() - toldMs;
    onStop?.(Math.min(this.#stops.agoMs, atMost));
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
    await this.#migration.completed();
    return new Uint8Array(0);
  }

  /**
   * QEMU undoes a migration that is ended before its last word: a guest that it had stopped for it
   * runs, any other stays as it was. After that word it resumes for `cont` alone. The end of its
   * stream is what QEMU hears first: its monitor is deaf while it sends the last pages.
   */
  override async resume(): Promise<RunState> {
    await this.ingest.stop();
    await this.#migration.cancel();
    const state = await this.settled();
    this.#cutOver = false;
    // QEMU 7.2 leaves one that stood in `postmigrate`, and does not say any more what it was.
    return state === 'migrated' ? (this.#standsAs ?? this.run(state)) : state;
  }

  keepMemory(keep: (memory: readonly RegionFile[]) => void): void {
    this.#keep = keep;
  }

  override async destroy(): Promise<void> {
    const keep = this.#keep;
    this.#keep = undefined; // it may be tried again
    if (keep !== undefined) {
      const memory = this.#sharedFiles(); // seen as long as QEMU has them
      await this.end();
      keep(memory);
    }
    await super.destroy();
    this.#migration.forget();
  }

  override close(): void {
    void this.stopPushing()
      .catch(() => {}) // gone with QEMU
      .then(() => super.close());
  }

  /** The RAM blocks that QEMU has in files in which what is written to memory is seen. */
  #sharedFiles(): readonly RegionFile[] {
    const { definition, process } = this.#parts;
    return this.description.regions.flatMap((region) => {
      const file = definition.ram.find(({ block }) => block === region.name)?.file;
      const stats = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false });
      if (file === undefined || stats === undefined) return [];
      return mapsShared(process.pid, file, stats) ? [{ region, path: file, offset: 0 }] : [];
    });
  }

  /** Whatever is under way ends, and the guest runs on unless it was given up. */
  async #leave(): Promise<void> {
    clearTimeout(this.#takeUp);
    this.#endCarefulPass();
    try {
      if (this.#cutOver) await this.ingest.stop(); // it hears nothing else
      await this.#migration.cancel();
      await this.#migration.restore();
    } finally {
      await this.ingest.stop();
    }
  }

  /**
   * The cutover, or a stop that has nothing to do with the migration. A QEMU that cannot be held back
   * from the cutover is asked which, and answers only when it was not that.
   */
  #hasStopped(): void {
    this.#stopped.resolve();
    const mayBeCutover = this.#stops.reason === undefined && this.#mayCutOver;
    this.#cutOver = mayBeCutover;
    if (!mayBeCutover || !this.#toldToStop) void this.#tellStopped();
    if (!mayBeCutover || this.#toldToStop) return;
    this.#takeUp = setTimeout(() => this.#deathListener?.(notTakenUp()), TAKE_UP_LIMIT_MS);
    this.#ownSuspension?.();
  }

  /** QEMU may stop the guest for its migration. */
  get #mayCutOver(): boolean {
    return this.#toldToStop || !this.#migration.canHold;
  }

  /** Tells what the guest does, unless it stands for the migration or runs again. */
  async #tellStopped(): Promise<void> {
    const state = this.#stops.reason ?? (await super.state().catch(() => 'migrated' as const));
    if (state === 'migrated' || state === 'running' || this.#left) return;
    this.#stoppedAs ??= state;
    this.#stopListener?.(state);
  }

  async #streamFailed(error: GodwitError): Promise<void> {
    this.#stopped.reject(error);
    const complaint = await this.#migration.complaint().catch(() => undefined);
    if (this.#left) return; // it was us
    const words = complaint ? `${error.message}: ${complaint}` : error.message;
    this.#deathListener?.(new GodwitError(error.code, words, { cause: error }));
  }
}
