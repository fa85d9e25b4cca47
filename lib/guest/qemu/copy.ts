import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import type { GuestCopy, GuestSuspension } from '../guest.ts';
import type { GuestDefinition } from './definition.ts';
import { endQemu } from './process.ts';
import { isAlive, type ProcessIdentity, processBehind } from './process-identity.ts';
import { QmpClient } from './qmp.ts';

/** QEMU changes its state before it answers; this is for one that is stopped from outside. */
const STATE_LIMIT_MS = 10_000;
const POLL_MS = 5;

/** QEMU's own defaults for what it does after a migration by itself: five frames within 0.6 s. */
const ANNOUNCEMENT = { initial: 50, max: 550, rounds: 5, step: 100 };

/** What finds a copy again, and what must be gone after it. */
export interface QemuRemains extends ProcessIdentity {
  /** Path of its monitor. */
  readonly qmp: string;
  /** The file in which its memory arrives; a source has none. */
  readonly staging?: string;
  /** The RAM files to be removed with it. */
  readonly ram: readonly string[];
}

/** A QEMU guest by its monitor and its process; both sides of a migration build on it. */
export class QemuCopy implements GuestCopy {
  protected readonly qmp: QmpClient;
  readonly #remains: QemuRemains;
  #closed = false;

  constructor(qmp: QmpClient, remains: QemuRemains) {
    this.qmp = qmp;
    this.#remains = remains;
  }

  /** The QEMU process: another one for a guest of the same name is another copy. */
  get handle(): string {
    const { qmp, pid, startTime, staging, ram } = this.#remains;
    return JSON.stringify({ kind: 'qemu', qmp, pid, startTime, staging, ram });
  }

  async suspend(onStop?: () => void): Promise<void> {
    onStop?.();
    await this.qmp.execute('stop');
  }

  /** A QEMU that has loaded a guest and was started with -S does nothing by itself. */
  async seal(): Promise<void> {}

  async resume(): Promise<void> {
    // QEMU would take the command as leave to run whatever arrives.
    if ((await this.status()) === 'inmigrate')
      throw new GodwitError('hypervisor-failed', 'QEMU cannot run the guest: it has not arrived');
    await this.qmp.execute('cont');
    await this.#running();
    await this.qmp.execute('announce-self', ANNOUNCEMENT).catch(() => {}); // the guest runs
  }

  /** The guest has no heartbeat that is known here. */
  async suspension(): Promise<GuestSuspension | undefined> {
    return undefined;
  }

  async destroy(): Promise<void> {
    await endQemu(this.#remains, this.#closed ? undefined : this.qmp);
    this.close();
    removeFiles(this.#remains);
  }

  onDeath(listener: (error: Error) => void): void {
    this.qmp.onClose(listener);
  }

  close(): void {
    this.#closed = true;
    this.qmp.close();
  }

  /** QEMU's RunState, such as `running`, `paused`, `inmigrate`. */
  protected async status(): Promise<string> {
    return (await this.qmp.execute<{ status: string }>('query-status')).status;
  }

  async #running(): Promise<void> {
    for (const deadline = Date.now() + STATE_LIMIT_MS; ; await sleep(POLL_MS)) {
      const status = await this.status();
      if (status === 'running') return;
      if (Date.now() < deadline) continue;
      const why = `QEMU was told to run the guest and is ${status} after ${formatDuration(STATE_LIMIT_MS)}`;
      throw new GodwitError('hypervisor-failed', why);
    }
  }
}

/**
 * The copy with this handle; undefined when it is gone, and then nothing is left of it.
 * @throws GodwitError hypervisor-failed when its monitor does not answer, journal-invalid for what
 *   is no handle
 */
export async function attachQemu(handle: string): Promise<QemuCopy | undefined> {
  const remains = parseHandle(handle);
  try {
    if (isAlive(remains)) return new QemuCopy(await QmpClient.connect(remains.qmp), remains);
  } catch (error) {
    if (isAlive(remains)) throw error;
  }
  // Another QEMU that has come since may have its memory in files of the same name.
  const ram = processBehind(remains.qmp) === undefined ? remains.ram : [];
  removeFiles({ ...remains, ram });
  return undefined;
}

/**
 * A copy that an agent was making room for when it died, before it had a handle: only a QEMU of this
 * definition that still waits for a guest can be it.
 */
export async function attachArriving(definition: GuestDefinition): Promise<QemuCopy | undefined> {
  const { qmp: path, ram } = definition;
  const process = processBehind(path);
  if (process === undefined) return undefined;
  const qmp = await QmpClient.connect(path);
  const { status } = await qmp.execute<{ status: string }>('query-status');
  if (status === 'inmigrate')
    return new QemuCopy(qmp, { ...process, qmp: path, ram: ram.map(({ file }) => file) });
  qmp.close();
  return undefined;
}

function removeFiles({ staging, ram }: QemuRemains): void {
  const files = staging === undefined ? ram : [staging, ...ram];
  for (const file of files) rmSync(file, { force: true });
}

function parseHandle(handle: string): QemuRemains {
  try {
    const parsed: { kind: string } & QemuRemains = JSON.parse(handle);
    if (parsed.kind === 'qemu') return parsed;
  } catch {
    // said below
  }
  throw new GodwitError('journal-invalid', `the journal has no handle of a QEMU guest: ${handle}`);
}
