import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import type { DestinationGuest, GuestDescription } from '../guest.ts';
import { type FoundPlace, handleOf } from '../handle.ts';
import type { KeptFiles } from '../hypervisor.ts';
import { startVmm } from './boot.ts';
import { ControlClient } from './control-client.ts';
import { type GuestAnswer, placeFrom, SimulatedCopy } from './copy.ts';
import { HYPERVISOR, shapeOf } from './device-model.ts';
import { answers, socketPath } from './socket-claim.ts';

export interface DestinationOptions {
  /** Directory of the control socket. */
  readonly dir: string;
  /** Directory of the RAM file; /dev/shm when left out. */
  readonly ramDir?: string;
  /** As the source gave it; it may come from a peer and is checked. */
  readonly description: GuestDescription;
  readonly logFile?: string;
  /** As for `Hypervisor.arrive`. */
  readonly kept?: KeptFiles | undefined;
  /** Told its handle, as `Hypervisor.arrive`. */
  readonly known: (handle: string) => Promise<void>;
}

/**
 * Starts a VMM with memory for the guest, which waits to be filled. It outlives this process.
 * @throws GodwitError guest-exists, memory-insufficient, ram-file-failed, bad-message
 */
export async function startSimulatedDestination(
  options: DestinationOptions,
): Promise<DestinationGuest> {
  const { dir, ramDir, description, logFile, kept, known } = options;
  const keptFile = kept?.get(description.regions[0]!.name);
  const { name } = shapeOf(description);
  const socket = path.resolve(socketPath(dir, name));
  await requireNameFree(dir, name);
  await known(handleOf({ kind: HYPERVISOR, guest: name, socket, ram: [] }));
  await startVmm(
    [
      ...[
        '--incoming',
        '--dir',
        path.dirname(socket),
        '--description',
        JSON.stringify(description),
      ],
      ...(ramDir === undefined ? [] : ['--ram-dir', ramDir]),
      ...(keptFile === undefined ? [] : ['--kept', keptFile]),
      ...(logFile === undefined ? [] : ['--log', logFile]),
    ],
    socket,
  );
  const client = await ControlClient.connect(socket, name);
  const answer = await client.execute<GuestAnswer>('query-guest');
  const place = placeFrom(socket, answer);
  const guest = new SimulatedDestination(client, answer, place, keptFile !== undefined);
  try {
    await known(guest.handle);
    return guest;
  } catch (error) {
    await guest.destroy();
    throw error;
  }
}

/** Looks only: whoever starts a VMM claims its name. @throws GodwitError guest-exists */
export async function requireNameFree(dir: string, name: string): Promise<void> {
  if (await answers(path.resolve(socketPath(dir, name))))
    throw new GodwitError('guest-exists', `a guest named ${name} exists already in ${dir}`);
}

class SimulatedDestination extends SimulatedCopy implements DestinationGuest {
  readonly placement = 'direct';
  readonly memory: readonly RegionFile[];
  readonly kept: readonly string[];

  constructor(client: ControlClient, { memory }: GuestAnswer, place: FoundPlace, hasKept: boolean) {
    super(client, place);
    this.memory = memory;
    this.kept = hasKept ? memory.map(({ region }) => region.name) : [];
  }

  /** The VMM reads along; the more there is at once, the fewer commands it takes. */
  async loadDeviceState({ path: file, progress }: StateSpool): Promise<void> {
    for (let to = 0; !progress.complete; ) {
      await progress.more(to);
      to = progress.available;
      if (!progress.complete) await this.client.execute('read-device-state', { file, to });
    }
    await this.client.execute('load-device-state', { file, to: progress.total });
  }
}
