import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import type { DestinationGuest, GuestDescription } from '../guest.ts';
import { QemuCopy } from './copy.ts';
import type { GuestDefinition } from './definition.ts';
import { checkDescription, type DeviceModel, decodeState } from './device-model.ts';
import { Egress } from './egress.ts';
import { checkRamFiles, type Placement, placementOf } from './placement.ts';
import { isAlive } from './process-identity.ts';
import { StagingFile } from './staging.ts';
import { setCapabilities, type WaitingQemu, waitingQemu } from './waiting.ts';

/** The kernel's sun_path has 108 bytes, one of them a NUL. */
const MAX_SOCKET_PATH = 107;
/** QEMU closes a stream that it does not take before it says why and exits. */
const EXIT_LIMIT_MS = 5_000;
/** It is through with loading before it says so; this is for one that is stopped from outside. */
const LOADED_LIMIT_MS = 10_000;
const POLL_MS = 5;

export interface QemuDestinationOptions {
  readonly definition: GuestDefinition;
  /** As the source gave it; it may come from a peer and is checked. */
  readonly description: GuestDescription;
  /** Directory for memory that waits to go into QEMU's stream. */
  readonly stagingDir: string;
  /** QEMU's output is appended to it. */
  readonly logFile: string;
}

/**
 * Starts the QEMU of a definition, or takes the one that waits already, and has it accept the
 * guest's machine and RAM blocks. QEMU outlives this process once the guest is loaded, not before.
 * @throws GodwitError bad-message, definition-invalid, memory-insufficient, ram-file-failed,
 *   guest-exists, guest-died; hypervisor-failed with QEMU's own words
 */
export async function startQemuDestination(
  options: QemuDestinationOptions,
): Promise<DestinationGuest> {
  const { definition, description, stagingDir, logFile } = options;
  const model = checkDescription(description);
  const placement = placementOf(definition, description.regions);
  const socket = streamSocket(definition);
  const staging = new StagingFile(stagingDir, definition.name, placement.staged);
  try {
    const ramSizes = new Map(model.blocks.map(({ name, length }) => [name, length]));
    const qemu = await waitingQemu(definition, ramSizes, logFile);
    return await occupy({ definition, model, placement, socket, staging, qemu });
  } catch (error) {
    staging.remove();
    throw error;
  }
}

/** What a destination is made of. */
interface Parts {
  readonly definition: GuestDefinition;
  readonly model: DeviceModel;
  readonly placement: Placement;
  /** Where QEMU waits for its migration stream. */
  readonly socket: string;
  readonly staging: StagingFile;
  readonly qemu: WaitingQemu;
}

async function occupy(parts: Parts): Promise<DestinationGuest> {
  const { definition, placement, qemu } = parts;
  const guest = new QemuDestination(parts);
  let isOurs = !qemu.attached;
  try {
    await checkRamFiles(definition, placement, qemu);
    isOurs = true; // from here on it is of no use to anyone else
    await guest.open();
    return guest;
  } catch (error) {
    if (isOurs)
      await guest.destroy().catch(() => {}); // what went wrong first is the reason
    else guest.close();
    throw error;
  }
}

class QemuDestination extends QemuCopy implements DestinationGuest {
  readonly memory: readonly RegionFile[];
  readonly #parts: Parts;
  readonly #egress: Egress;
  /** What QEMU has printed while it started: warnings. */
  readonly #firstWords: string;
  readonly #death = Promise.withResolvers<GodwitError>();

  constructor(parts: Parts) {
    const { definition, model, placement, socket, staging, qemu } = parts;
    const ram = definition.ram.map(({ file }) => file);
    const { pid, startTime } = qemu;
    super(qemu.qmp, { qmp: definition.qmp, pid, startTime, staging: staging.path, ram });
    this.#parts = parts;
    this.#firstWords = qemu.lastWords();
    this.memory = [...placement.direct, ...staging.memory];
    const { prologue, sectionId } = model;
    const died = async (error: GodwitError) => this.#death.resolve(await this.#explained(error));
    this.#egress = new Egress({ socket, prologue, sectionId, staged: staging.memory }, died);
    super.onDeath((error) => died(error as GodwitError));
  }

  get placement(): 'direct' | 'stream' {
    return this.#parts.placement.direct.length > 0 ? 'direct' : 'stream';
  }

  /** Has QEMU take the machine and the RAM blocks. */
  async open(): Promise<void> {
    const { socket } = this.#parts;
    await setCapabilities(this.qmp);
    await this.qmp.execute('migrate-incoming', { uri: `unix:${socket}` });
    try {
      await this.#must('does not take the guest', 'hypervisor-failed', () => this.#egress.open());
    } finally {
      rmSync(socket, { force: true }); // QEMU takes one connection
    }
  }

  pagesArrived(pages: PageSet): Promise<void> {
    return this.#must('lost its migration stream', 'hypervisor-failed', () =>
      this.#egress.round(pages),
    );
  }

  async loadDeviceState(state: Uint8Array): Promise<void> {
    const parts = decodeState(state);
    await this.#must("does not take the guest's device state", 'device-state-invalid', async () => {
      const error = await this.#egress.finish(parts);
      if (error !== 0) throw new GodwitError('hypervisor-failed', `its answer is error ${error}`);
      await this.#loaded();
    });
    await this.#egress.stop();
    this.#parts.staging.remove();
  }

  override onDeath(listener: (error: Error) => void): void {
    this.#death.promise.then(listener);
  }

  override async destroy(): Promise<void> {
    await this.#egress.stop();
    await super.destroy();
  }

  override close(): void {
    this.#egress.stop();
    super.close();
  }

  /** QEMU has everything and waits for the word to run. */
  async #loaded(): Promise<void> {
    for (const deadline = Date.now() + LOADED_LIMIT_MS; ; await sleep(POLL_MS)) {
      const { status } = await this.qmp.execute<{ status: string }>('query-migrate');
      if (status === 'completed') break;
      if (status === 'failed' || Date.now() > deadline)
        throw new GodwitError('hypervisor-failed', `its migration is ${status}`);
    }
    const status = await this.status();
    if (status === 'running' || status === 'inmigrate')
      throw new GodwitError(
        'hypervisor-failed',
        `it is ${status} instead of waiting to be resumed`,
      );
  }

  async #must<T>(what: string, code: ErrorCode, step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      throw await this.#explained(error as GodwitError, what, code);
    }
  }

  /** The error with QEMU's own words in place of ours, as far as it has said any. */
  async #explained(
    error: GodwitError,
    what = 'died',
    code: ErrorCode = 'guest-died',
  ): Promise<GodwitError> {
    const { definition, qemu } = this.#parts;
    if (error.code === 'cancelled') return error;
    for (const deadline = Date.now() + EXIT_LIMIT_MS; isAlive(qemu); await sleep(POLL_MS))
      if (Date.now() > deadline) break;
    const words = qemu.lastWords();
    const text = (why: string) => `QEMU of guest ${definition.name} ${what}: ${why}`;
    if (words !== this.#firstWords) return new GodwitError(code, text(words), { cause: error });
    if (isAlive(qemu)) return new GodwitError(code, text(error.message), { cause: error });
    return new GodwitError('guest-died', text('it is gone and has not said why'), { cause: error });
  }
}

/** Beside the monitor, where QEMU can make sockets. */
function streamSocket({ file, qmp }: GuestDefinition): string {
  const socket = `${qmp}.in`;
  if (Buffer.byteLength(socket) <= MAX_SOCKET_PATH) return socket;
  const text = `${file}: "qmp" is too long: QEMU's migration stream comes to ${socket}, and a Unix socket's path has at most ${MAX_SOCKET_PATH} bytes`;
  throw new GodwitError('definition-invalid', text);
}
