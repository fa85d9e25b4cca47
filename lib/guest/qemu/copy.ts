import { GodwitError } from '../../errors.ts';
import { poll } from '../../poll.ts';
import { formatDuration } from '../../units.ts';
import { attach, removeFiles } from '../attach.ts';
import { endProcess } from '../end-process.ts';
import type { GuestCopy, GuestSuspension } from '../guest.ts';
import { type CopyPlace, type FoundPlace, handleOf, inThisBoot, placeOf } from '../handle.ts';
import { CommandRefused } from '../line-client.ts';
import type { RunState } from '../run-state.ts';
import { HYPERVISOR } from './device-model.ts';
import { QmpClient } from './qmp.ts';
import { runStateOf } from './run-state.ts';

/** A migration that was broken off is undone in milliseconds; a machine under load gets more. */
const UNDO_LIMIT_MS = 10_000;
const POLL_MS = 5;

/** QEMU's own defaults for what it does after a migration by itself: five frames within 0.6 s. */
const ANNOUNCEMENT = { initial: 50, max: 550, rounds: 5, step: 100 };

/** A QEMU guest by its monitor and its process; both sides of a migration build on it. */
export class QemuCopy implements GuestCopy {
  protected readonly qmp: QmpClient;
  readonly #place: FoundPlace;
  #closed = false;

  constructor(qmp: QmpClient, place: FoundPlace) {
    this.qmp = qmp;
    this.#place = place;
  }

  /** The QEMU process: another one for a guest of the same name is another copy. */
  get handle(): string {
    return handleOf(this.#place);
  }

  get hypervisorVersion(): string {
    return `QEMU ${this.qmp.version}`;
  }

  async state(): Promise<RunState> {
    return runStateOf(await this.#status());
  }

  async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    onStop?.(0);
    await this.qmp.execute('stop');
    return this.state();
  }

  /** A QEMU that has loaded a guest and was started with -S does nothing by itself. */
  async seal(): Promise<Uint8Array> {
    return new Uint8Array(0);
  }

  /** A guest that was paused before it was to be moved is left so. */
  async resume(): Promise<RunState> {
    const state = await this.settled();
    // QEMU would take the command as leave to run whatever arrives.
    if (state === 'incoming')
      throw new GodwitError('not-started', 'QEMU cannot run the guest: it has not arrived');
    const isOurs = state === 'migrated' || state === 'paused';
    return isOurs && !this.#place.paused ? this.run(state) : state;
  }

  /** The guest has no heartbeat that is known here. */
  async suspension(): Promise<GuestSuspension | undefined> {
    return undefined;
  }

  async destroy(): Promise<void> {
    await this.end();
    removeFiles(this.#place);
  }

  /** Ends its process. */
  protected async end(): Promise<void> {
    const quit = () => void this.qmp.executeLast('quit').catch(() => {});
    await endProcess(this.#place.process, this.#closed ? undefined : quit);
    this.close();
  }

  onDeath(listener: (error: Error) => void): void {
    this.qmp.onClose(listener);
  }

  close(): void {
    this.#closed = true;
    this.qmp.close();
  }

  /** Its state once it is not in the middle of a migration: that ends by itself when its agent is gone. */
  protected async settled(): Promise<RunState> {
    const status = await poll(UNDO_LIMIT_MS, POLL_MS, async () => {
      const word = await this.#status();
      return word === 'finish-migrate' ? undefined : word;
    });
    if (status !== undefined) return runStateOf(status);
    const why = `QEMU has not undone its migration within ${formatDuration(UNDO_LIMIT_MS)}`;
    throw new GodwitError('hypervisor-failed', why);
  }

  /** QEMU's own word, as in `running`, `inmigrate`. */
  async #status(): Promise<string> {
    return (await this.qmp.execute<{ status: string }>('query-status')).status;
  }

  /** QEMU says RESUME before it answers; what stops the guest a moment later has let it run. */
  protected async run(before: RunState): Promise<RunState> {
    let hasRun = false;
    const stopListening = this.qmp.on('RESUME', () => {
      hasRun = true;
    });
    try {
      await this.qmp.execute('cont');
    } catch (error) {
      const refused = error instanceof CommandRefused && !hasRun;
      if (!refused || (await this.state()) !== before || hasRun) throw error;
      throw new GodwitError('not-started', error.message, { cause: error });
    } finally {
      stopListening();
    }
    const state = await this.state().catch(() => 'running' as const); // as it was when QEMU answered
    // Nobody waits for it: the guest runs.
    if (state === 'running') this.qmp.execute('announce-self', ANNOUNCEMENT).catch(() => {});
    return state;
  }
}

/** @throws as `attach` */
export async function attachQemu(handle: string): Promise<GuestCopy | 'gone'> {
  const marks = ({ socket }: CopyPlace) => [socket];
  return attach(placeOf(HYPERVISOR, handle), { connect, waiting, marks, clear: removeFiles });
}

async function connect(place: FoundPlace): Promise<GuestCopy> {
  const qmp = await QmpClient.connect(place.socket);
  try {
    if ((await qmp.process()).pid === place.process.pid) return new QemuCopy(qmp, place);
    throw new GodwitError('not-seen', `another QEMU serves ${place.socket}`);
  } catch (error) {
    qmp.close();
    throw error;
  }
}

async function waiting(place: CopyPlace): Promise<GuestCopy | undefined> {
  const qmp = await QmpClient.connect(place.socket);
  try {
    const process = inThisBoot(await qmp.process());
    const copy = new QemuCopy(qmp, { ...place, process });
    if ((await copy.state()) === 'incoming') return copy;
    qmp.close();
    return undefined;
  } catch (error) {
    qmp.close();
    throw error;
  }
}
