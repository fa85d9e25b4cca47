import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { GuestLayout } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import { WorkerLink } from '../../pages/worker-link.ts';
import type { GuestDescription, Published, PushingGuest } from '../guest.ts';
import { QemuCopy } from './copy.ts';
import type { GuestDefinition } from './definition.ts';
import { deviceModelOf, encodeState, regionsOf } from './device-model.ts';
import type { IngestData, IngestRequests, Prologue } from './ingest-protocol.ts';
import { QemuMigration } from './migration.ts';
import { type ProcessIdentity, processBehind } from './process-identity.ts';
import { QmpClient } from './qmp.ts';

/** QEMU stops the guest within its next look at the clock: 50 ms, and one pass over the dirty log. */
const STOP_LIMIT_MS = 10_000;
/** How long QEMU may take to show that it runs the guest again. */
const RESUME_LIMIT_MS = 5_000;
const POLL_MS = 2;

/**
 * The QEMU guest of a definition, for migrating it away: QEMU migrates into a socket of ours and
 * waits with its first page.
 * @throws GodwitError guest-not-running, guest-busy, hypervisor-failed, qemu-stream
 */
export async function connectQemuSource(definition: GuestDefinition): Promise<PushingGuest> {
  const qmp = await QmpClient.connect(definition.qmp);
  let ingest: WorkerLink<IngestRequests> | undefined;
  let migration: QemuMigration | undefined;
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  try {
    const { status } = await qmp.execute<{ status: string }>('query-status');
    if (status !== 'running') throw notRunning(definition.name, status);
    const process = processBehind(definition.qmp);
    if (process === undefined)
      throw new GodwitError(
        'hypervisor-failed',
        `the process of guest ${definition.name} is not to be found behind ${definition.qmp}`,
      );
    migration = await QemuMigration.prepare(qmp);
    const path = `${definition.qmp}.out`;
    const data: IngestData = { path };
    ingest = new WorkerLink(new URL('./ingest-worker.ts', import.meta.url), data, failure.reject);
    const prologue = await begin(definition, migration, ingest, path);
    return new QemuSource({ definition, qmp, process, migration, ingest, failure, prologue });
  } catch (error) {
    await ingest?.stop();
    await migration?.cancel().catch(() => {});
    await migration?.restore().catch(() => {});
    qmp.close();
    throw error;
  }
}

/** Up to QEMU's list of RAM blocks. */
async function begin(
  definition: GuestDefinition,
  migration: QemuMigration,
  ingest: WorkerLink<IngestRequests>,
  path: string,
): Promise<Prologue> {
  fs.rmSync(path, { force: true }); // of an agent that died
  await ingest.request('listen', undefined);
  try {
    // QEMU may run as another user, who owns its monitor.
    const { uid, gid } = fs.statSync(definition.qmp);
    fs.chownSync(path, uid, gid);
    await migration.start(path);
    return await ingest.request('prologue', undefined);
  } finally {
    fs.rmSync(path, { force: true });
  }
}

interface QemuSourceParts {
  readonly definition: GuestDefinition;
  readonly qmp: QmpClient;
  readonly process: ProcessIdentity;
  readonly migration: QemuMigration;
  readonly ingest: WorkerLink<IngestRequests>;
  /** Rejects when the stream ends or holds what it should not. */
  readonly failure: PromiseWithResolvers<never>;
  readonly prologue: Prologue;
}

class QemuSource extends QemuCopy implements PushingGuest {
  readonly pages = 'pushed';
  readonly description: GuestDescription;
  readonly #migration: QemuMigration;
  readonly #ingest: WorkerLink<IngestRequests>;
  readonly #stopped = Promise.withResolvers<void>();
  readonly #pfnEnd: number;
  #pass = { number: 1, dirtyPages: 0 };
  /** QEMU's last word about passes; how many pages it has is being asked. */
  #latestPass = 1;
  #asking = false;
  #passListener: (() => void) | undefined;
  #deathListener: ((error: Error) => void) | undefined;
  #ownSuspension: (() => void) | undefined;
  #toldToStop = false;
  #isStopped = false;
  #left: Promise<void> | undefined;

  constructor({ definition, qmp, process, migration, ingest, failure, prologue }: QemuSourceParts) {
    const { name, ram } = definition;
    super(qmp, { ...process, qmp: definition.qmp, ram: ram.map(({ file }) => file) });
    const regions = regionsOf(prologue.blocks);
    const { machine, bytes } = prologue;
    const deviceModel = deviceModelOf({ machine, prologue: Buffer.from(bytes) });
    this.description = { name, hypervisor: 'qemu', deviceModel, regions };
    this.#pfnEnd = new GuestLayout(regions).pfnEnd;
    this.#migration = migration;
    this.#ingest = ingest;
    qmp.on('STOP', () => this.#suspended());
    qmp.on('MIGRATION_PASS', ({ data }) => this.#passBegins(Number(data?.pass)));
    failure.promise.catch((error) => this.#streamFailed(asGodwitError(error)));
    this.#stopped.promise.catch(() => {});
  }

  get pass(): PushingGuest['pass'] {
    return this.#pass;
  }

  onPass(listener: () => void): void {
    this.#passListener = listener;
  }

  onOwnSuspension(listener: () => void): void {
    this.#ownSuspension = listener;
    if (this.#isStopped && !this.#toldToStop) listener();
  }

  override onDeath(listener: (error: Error) => void): void {
    super.onDeath(listener);
    this.#deathListener = listener;
  }

  async startPushing(rings: readonly SharedArrayBuffer[]): Promise<void> {
    await this.#ingest.request('read', { regions: this.description.regions, rings });
  }

  /** QEMU waits for our word before it stops the guest; one that cannot is not read from. */
  async hold(): Promise<void> {
    if (!this.#migration.canHold && !this.#isStopped) await this.#ingest.request('reading', false);
  }

  async goOn(): Promise<void> {
    if (!this.#migration.canHold) await this.#ingest.request('reading', true);
  }

  /** Of a guest that is stopped, what was pending then: QEMU answers nothing while it sends the rest. */
  async pendingPages(): Promise<number> {
    if (this.#isStopped) return this.#pass.dirtyPages;
    return (await this.#migration.pendingPages()) ?? 0;
  }

  async publish(round: number): Promise<Published> {
    const { chunks, pages } = await this.#ingest.request('publish', round);
    return { chunks, pages: new PageSet(this.#pfnEnd, pages) };
  }

  async pushedAll(): Promise<void> {
    await this.#ingest.request('ramEnded', undefined);
  }

  stopPushing(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  /** QEMU sends what is left and waits with the rest of its life for our word. */
  override async suspend(onStop?: () => void): Promise<void> {
    this.#toldToStop = true;
    await this.goOn();
    await this.#migration.force();
    if (this.#migration.canHold) await this.#ingest.request('allowSwitchover', undefined);
    const late = () =>
      this.#stopped.reject(
        new GodwitError('hypervisor-failed', 'QEMU did not stop the guest when it was told to'),
      );
    const timer = setTimeout(late, STOP_LIMIT_MS);
    await this.#stopped.promise.finally(() => clearTimeout(timer));
    onStop?.();
  }

  async saveDeviceState(): Promise<Uint8Array> {
    const { beforeEnd, tail } = await this.#ingest.request('deviceState', undefined);
    return encodeState({ beforeEnd: Buffer.from(beforeEnd), tail: Buffer.from(tail) });
  }

  /** Without an end to its migration QEMU would resume the guest when this agent dies. */
  override async seal(): Promise<void> {
    await this.#ingest.request('shut', undefined);
    await this.#migration.completed();
  }

  /**
   * A migration that is ended before its last word resumes the guest; after it, `cont` does. The end
   * of its stream is what QEMU hears first: its monitor is deaf while it sends the last pages.
   */
  override async resume(): Promise<void> {
    await this.#ingest.stop();
    await this.#migration.cancel();
    for (const end = performance.now() + RESUME_LIMIT_MS; ; await sleep(POLL_MS)) {
      const { running, status } = await this.qmp.execute<{ running: boolean; status: string }>(
        'query-status',
      );
      if (running) return;
      const byItself = status === 'finish-migrate' && performance.now() < end;
      if (!byItself) return super.resume();
    }
  }

  override close(): void {
    void this.stopPushing()
      .catch(() => {}) // gone with QEMU
      .then(() => super.close());
  }

  /** Whatever is under way ends, and the guest runs on unless it was given up. */
  async #leave(): Promise<void> {
    try {
      await this.#migration.cancel();
      await this.#migration.restore();
    } finally {
      await this.#ingest.stop();
    }
  }

  #suspended(): void {
    this.#isStopped = true;
    this.#stopped.resolve();
    if (!this.#toldToStop) this.#ownSuspension?.();
  }

  /** Passes of an idle guest come faster than anybody could ask about them. */
  async #passBegins(number: number): Promise<void> {
    this.#latestPass = number;
    if (this.#asking || this.#isStopped) return;
    this.#asking = true;
    try {
      const dirtyPages = await this.pendingPages();
      this.#pass = { number: this.#latestPass, dirtyPages };
      this.#passListener?.();
    } catch {
      // QEMU is gone, which is told elsewhere
    } finally {
      this.#asking = false;
    }
  }

  async #streamFailed(error: GodwitError): Promise<void> {
    this.#stopped.reject(error);
    const complaint = await this.#migration.complaint().catch(() => undefined);
    if (this.#left) return; // it was us
    const words = complaint ? `${error.message}: ${complaint}` : error.message;
    this.#deathListener?.(new GodwitError(error.code, words, { cause: error }));
  }
}

function notRunning(name: string, status: string): GodwitError {
  const text = `guest ${name} is ${status}; only a running guest can be moved`;
  return new GodwitError('guest-not-running', text);
}
