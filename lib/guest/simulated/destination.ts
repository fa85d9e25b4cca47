import type { DestinationGuest, GuestDescription } from '../guest.ts';
import { startVmm } from './boot.ts';
import { ControlClient } from './control-client.ts';
import { type GuestAnswer, SimulatedCopy } from './copy.ts';
import { shapeOf } from './device-model.ts';
import { socketPath } from './socket-claim.ts';

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
  const answer = await client.execute<GuestAnswer>('query-guest');
  return new SimulatedDestination(client, name, { ...answer, socket });
}

class SimulatedDestination extends SimulatedCopy implements DestinationGuest {
  readonly placement = 'direct';

  async loadDeviceState(state: Uint8Array): Promise<void> {
    const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength);
    await this.client.execute('load-device-state', { state: bytes.toString('base64') });
  }
}
