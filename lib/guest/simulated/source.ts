import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import { MAX_DEVICE_STATE } from '../../memory/state-progress.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import type { GuestDescription, ReadableGuest } from '../guest.ts';
import type { FoundPlace } from '../handle.ts';
import type { RecallPlace } from '../recall/recall-protocol.ts';
import { movable, type RunState } from '../run-state.ts';
import type { ControlClient } from './control-client.ts';
import {
  type GuestAnswer,
  placeFrom,
  runStateOf,
  SimulatedCopy,
  type StatusAnswer,
} from './copy.ts';
import { connectGuest } from './guest-dir.ts';
import { socketPath } from './socket-claim.ts';

/**
 * The simulated guest of this name, for migrating it away.
 * @throws GodwitError unknown-guest, naming the guests there are; guest-not-running
 */
export async function connectSimulatedSource(dir: string, name: string): Promise<ReadableGuest> {
  const client = await connectGuest(dir, name);
  try {
    const answer = await client.execute<GuestAnswer>('query-guest');
    const place = placeFrom(path.resolve(socketPath(dir, name)), answer);
    const guest = new SimulatedSource(client, answer, place);
    await guest.look();
    return guest;
  } catch (error) {
    client.close();
    throw error;
  }
}

class SimulatedSource extends SimulatedCopy implements ReadableGuest {
  readonly pages = 'read';
  readonly description: GuestDescription;
  readonly memory: readonly RegionFile[];
  readonly deviceStateBytes: number;
  readonly recallPlace: RecallPlace;
  #arrives: 'running' | 'paused' = 'running';
  /** What it has been stopped for since it was opened, by whoever is no agent. */
  #stands: RunState | undefined;
  #stopListener: ((state: RunState) => void) | undefined;
  #spool: StateSpool | undefined;
  #keep: ((memory: readonly RegionFile[]) => void) | undefined;

  constructor(client: ControlClient, answer: GuestAnswer, place: FoundPlace) {
    super(client, place);
    this.description = answer.description;
    this.deviceStateBytes = answer.deviceStateBytes;
    const { socket, guest, process } = place;
    this.recallPlace = { kind: 'simulated', socket, guest, pid: process.pid };
    this.memory = answer.memory;
    client.on('STOP', ({ data }) => this.#stopped(data as unknown as StatusAnswer));
    client.on('RESUME', () => {
      this.#arrives = 'running';
      this.#stands = undefined;
    });
  }

  /** @throws GodwitError guest-not-running */
  async look(): Promise<void> {
    this.#arrives = movable(this.description.name, await this.state());
  }

  get arrives(): 'running' | 'paused' {
    return this.#arrives;
  }

  onStopped(listener: (state: RunState) => void): void {
    this.#stopListener = listener;
    if (this.#stands !== undefined) listener(this.#stands);
  }

  async startDirtyLog(): Promise<void> {
    await this.client.execute('dirty-log-start');
  }

  async syncDirtyLog(into: PageSet): Promise<void> {
    const { bitmap } = await this.client.execute<{ bitmap: string }>('dirty-log-sync');
    const log = Buffer.from(bitmap, 'base64');
    const set = into.bytes;
    if (log.length !== set.length)
      throw new GodwitError(
        'hypervisor-failed',
        `the dirty log of guest ${this.description.name} has ${log.length} bytes, not ${set.length}`,
      );
    for (let i = 0; i < log.length; i++) set[i]! |= log[i]!;
  }

  async stopDirtyLog(): Promise<void> {
    await this.client.execute('dirty-log-stop');
  }

  async saveInto(spool: StateSpool): Promise<void> {
    this.#spool = spool;
  }

  keepMemory(keep: (memory: readonly RegionFile[]) => void): void {
    this.#keep = keep;
  }

  override async destroy(): Promise<void> {
    const keep = this.#keep;
    this.#keep = undefined; // it may be tried again
    if (keep !== undefined) {
      await this.end({ keepMemory: true });
      keep(this.memory);
    }
    await super.destroy();
  }

  /** The VMM writes it, from its beginning on, and tells how far it is. */
  async saveDeviceState(): Promise<number> {
    const { path, progress } = this.#spool!;
    const stopListening = this.client.on('DEVICE_STATE', ({ data }) => {
      const written = Number(data?.written);
      if (written <= MAX_DEVICE_STATE) progress.wrote(0, written); // else the answer is refused
    });
    try {
      const answer = await this.client.execute<{ written: number }>('save-device-state', {
        file: path,
      });
      progress.wrote(0, answer.written);
      progress.endAt(answer.written);
      return answer.written;
    } finally {
      stopListening();
    }
  }

  #stopped({ status, by }: StatusAnswer): void {
    if (by === 'agent') return;
    const state = runStateOf(status);
    if (state === 'paused') this.#arrives = 'paused';
    this.#stands = state;
    this.#stopListener?.(state);
  }
}
