import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { DestinationGuest, GuestDescription, GuestSuspension } from '../guest.ts';
import { startVmm } from './boot.ts';
import { ControlClient } from './control-client.ts';
import { shapeOf } from './device-model.ts';
import { lastSuspension } from './last-suspension.ts';
import { socketPath } from './socket-claim.ts';
import { endVmm, type VmmRemains } from './vmm-end.ts';

export interface DestinationOptions {
  /** Directory of the control socket. */
  readonly dir: string;
  /** Directory of the RAM file; /dev/shm when left out. */
  readonly ramDir?: string;
  /** As the source gave it; it may come from a peer and is checked. */
  readonly description: GuestDescription;
  readonly logFile?: string;
}

/**
 * Starts a VMM with memory for the guest, which waits to be filled. It outlives this process.
 * @throws GodwitError guest-exists, memory-insufficient, ram-file-failed, bad-message
 */
export async function startSimulatedDestination(
  options: DestinationOptions,
): Promise<DestinationGuest> {
  const { dir, ramDir, description, logFile } = options;
  const { name } = shapeOf(description);
  const { socket } = await startVmm(
    [
      ...['--incoming', '--dir', dir, '--description', JSON.stringify(description)],
      ...(ramDir === undefined ? [] : ['--ram-dir', ramDir]),
      ...(logFile === undefined ? [] : ['--log', logFile]),
    ],
    socketPath(dir, name),
  );
  const client = await ControlClient.connect(socket, name);
  const answer = await client.execute<Omit<VmmRemains, 'socket'>>('query-guest');
  return new SimulatedDestination(client, name, { ...answer, socket });
}

class SimulatedDestination implements DestinationGuest {
  readonly memory: readonly RegionFile[];
  readonly #client: ControlClient;
  readonly #name: string;
  readonly #vmm: VmmRemains;

  constructor(client: ControlClient, name: string, vmm: VmmRemains) {
    this.#client = client;
    this.#name = name;
    this.#vmm = vmm;
    this.memory = vmm.memory;
  }

  async loadDeviceState(state: Uint8Array): Promise<void> {
    const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength);
    await this.#client.execute('load-device-state', { state: bytes.toString('base64') });
  }

  /** The VMM answers after the guest's first heartbeat. */
  async resume(): Promise<void> {
    await this.#client.execute('cont');
  }

  suspension(): Promise<GuestSuspension | undefined> {
    return lastSuspension(this.#client);
  }

  discard(): Promise<void> {
    return endVmm(this.#client, this.#vmm);
  }

  onDeath(listener: (error: Error) => void): void {
    this.#client.onClose(() =>
      listener(new GodwitError('guest-died', `the VMM of guest ${this.#name} is gone`)),
    );
  }

  close(): void {
    this.#client.close();
  }
}
