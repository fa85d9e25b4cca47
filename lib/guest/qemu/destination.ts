import { rmSync } from 'node:fs';
import type { Crew } from '../../crew/crew.ts';
import { type ErrorCode, GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import { poll } from '../../poll.ts';
import type { DestinationGuest, GuestDescription } from '../guest.ts';
import { type CopyPlace, handleOf, inThisBoot } from '../handle.ts';
import type { KeptFiles } from '../hypervisor.ts';
import { isAlive } from '../process-identity.ts';
import { RUN_STATE_WORDS } from '../run-state.ts';
import { QemuCopy } from './copy.ts';
import { requireCpu } from './cpu-features.ts';
import type { GuestDefinition } from './definition.ts';
import { checkDescription, type DeviceModel, HYPERVISOR } from './device-model.ts';
import { openEgress, type QemuEgress } from './egress.ts';
import { checkRamFiles, type Placement, placementOf } from './placement.ts';
import { requireUnserved } from './process.ts';
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
  /** Who carries the stream to QEMU. */
  readonly crew: Crew;
  readonly definition: GuestDefinition;
  /** As the source gave it; it may come from a peer and is checked. */
  readonly description: GuestDescription;
  /** Directory for memory that waits to go into QEMU's stream. */
  readonly stagingDir: string;
  /** QEMU's output is appended to it. */
  readonly logFile: string;
  /** As for `Hypervisor.arrive`. */
  readonly kept?: KeptFiles | undefined;
  /** Told its handle, as `Hypervisor.arrive`. */
  readonly known: (handle: string) => Promise<void>;
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
  const { crew, definition, description, stagingDir, logFile, kept, known } = options;
  const model = checkDescription(description);
  const placement = placementOf(definition, description.regions);
  const socket = streamSocket(definition);
  const staging = new StagingFile(stagingDir, definition.name, placement.staged);
  // Before anybody knows of a copy here: whoever runs at that place is none.
  if (definition.command !== undefined) await requireUnserved(definition);
  const place = placeOfArrival(definition, staging);
  await known(handleOf(place));
  try {
    staging.make();
    const ramSizes = new Map(model.blocks.map(({ name, length }) => [name, length]));
    const qemu = await waitingQemu(definition, ramSizes, logFile, kept);
    return await occupy(
      { crew, definition, model, placement, socket, staging, place, qemu },
      known,
    );
  } catch (error) {
    staging.remove();
    throw error;
  }
}

/** What a destination is made of. */
interface Parts {
  readonly crew: Crew;
  readonly definition: GuestDefinition;
  readonly model: DeviceModel;
  readonly placement: Placement;
  /** Where QEMU waits for its migration stream. */
  readonly socket: string;
  readonly staging: StagingFile;
  readonly place: CopyPlace;
  readonly qemu: WaitingQemu;
}

function placeOfArrival({ name, qmp, ram }: GuestDefinition, staging: StagingFile): CopyPlace {
  const files = ram.map(({ file }) => file);
  return { kind: HYPERVISOR, guest: name, socket: qmp, ram: files, staging: staging.path };
}

async function occupy(
  parts: Parts,
  known: QemuDestinationOptions['known'],
): Promise<DestinationGuest> {
  const { definition, model, placement, qemu } = parts;
  const guest = new QemuDestination(parts);
  let isOurs = !qemu.attached;
  try {
    await checkRamFiles(definition, placement, qemu);
    await requireCpu(model.cpu, qemu.qmp, definition);
    isOurs = true; // from here on it is of no use to anyone else
    await known(guest.handle);
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
  readonly #egress: QemuEgress;
  /** What QEMU has printed while it started: warnings. */
  readonly #firstWords: string;
  readonly #death = Promise.withResolvers<GodwitError>();

  constructor(parts: Parts) {
    const { crew, model, placement, socket, staging, place, qemu } = parts;
    super(qemu.qmp, { ...place, process: inThisBoot(qemu) });
    this.#parts = parts;
    this.#firstWords = qemu.lastWords();
    this.memory = [...placement.direct, ...staging.memory];
    const { prologue, sectionId } = model;
    const died = async (error: GodwitError) => this.#death.resolve(await this.#explained(error));
    const stream = { socket, prologue, sectionId, staged: staging.memory };
    this.#egress = openEgress(crew, stream, died);
    super.onDeath((error) => died(error as GodwitError));
  }

  get placement(): 'direct' | 'stream' {
    return this.#parts.placement.direct.length > 0 ? 'direct' : 'stream';
  }

  get kept(): readonly string[] {
    return this.#parts.qemu.kept;
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

  async loadDeviceState(state: StateSpool): Promise<void> {
    await this.#must("does not take the guest's device state", 'device-state-invalid', async () => {
      const error = await this.#egress.finish(state.share);
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
    let migration = '';
    await poll(LOADED_LIMIT_MS, POLL_MS, async () => {
      migration = (await this.qmp.execute<{ status: string }>('query-migrate')).status;
      return ['completed', 'failed'].includes(migration) || undefined;
    });
    if (migration !== 'completed')
      throw new GodwitError('hypervisor-failed', `its migration is ${migration}`);
    const state = await this.state();
    if (state !== 'running' && state !== 'incoming') return;
    const why = `the guest ${RUN_STATE_WORDS[state]} instead of waiting to be resumed`;
    throw new GodwitError('hypervisor-failed', why);
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
    if (error.code === 'cancelled' || error.code === 'device-state-invalid') return error;
    await poll(EXIT_LIMIT_MS, POLL_MS, () => !isAlive(qemu) || undefined);
    const words = qemu.lastWords();
    const text = (why: string) => `QEMU of guest ${definition.name} ${what}: ${why}`;
    if (words !== this.#firstWords) return new GodwitError(code, text(words), { cause: error });
    if (isAlive(qemu)) return new GodwitError(code, text(error.message), { cause: error });
    return new GodwitError('guest-died', text('it is gone and has not said why'), { cause: error });
  }
}

/** Beside the monitor, where QEMU can make sockets. @throws GodwitError definition-invalid */
export function streamSocket({ file, qmp }: GuestDefinition): string {
  const socket = `${qmp}.in`;
  if (Buffer.byteLength(socket) <= MAX_SOCKET_PATH) return socket;
  const text = `${file}: "qmp" is too long: QEMU's migration stream comes to ${socket}, and a Unix socket's path has at most ${MAX_SOCKET_PATH} bytes`;
  throw new GodwitError('definition-invalid', text);
}
