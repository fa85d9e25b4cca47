import { readdir } from 'node:fs/promises';
import { GodwitError } from '../../errors.ts';
import type { PageSet } from '../../memory/page-set.ts';
import type { GuestDescription, ReadableGuest } from '../guest.ts';
import { ControlClient } from './control-client.ts';
import { type GuestAnswer, SimulatedCopy } from './copy.ts';
import { socketPath } from './socket-claim.ts';
import type { VmmRemains } from './vmm-end.ts';

/**
 * The simulated guest of this name, for migrating it away.
 * @throws GodwitError unknown-guest, naming the guests there are; guest-not-running
 */
export async function connectSimulatedSource(dir: string, name: string): Promise<ReadableGuest> {
  const socket = socketPath(dir, name);
  let client: ControlClient;
  try {
    client = await ControlClient.connect(socket, name);
  } catch (cause) {
    const names = await simulatedGuestNames(dir);
    const known = names.length === 0 ? `there is none in ${dir}` : `there are ${names.join(', ')}`;
    throw new GodwitError('unknown-guest', `no simulated guest "${name}"; ${known}`, { cause });
  }
  const answer = await client.execute<GuestAnswer>('query-guest');
  if (answer.status !== 'running') {
    client.close();
    // Moving a guest that somebody stopped would start it at the other end.
    const text = `guest ${name} is ${answer.status}; only a running guest can be moved`;
    throw new GodwitError('guest-not-running', text);
  }
  return new SimulatedSource(client, answer.description, { ...answer, socket });
}

/** Names of the guests with a control socket in a directory, sorted; some may be dead. */
export async function simulatedGuestNames(dir: string): Promise<string[]> {
  const files = await readdir(dir).catch(() => []);
  return files
    .filter((file) => file.endsWith('.sock'))
    .map((file) => file.slice(0, -'.sock'.length))
    .sort();
}

class SimulatedSource extends SimulatedCopy implements ReadableGuest {
  readonly pages = 'read';
  readonly description: GuestDescription;

  constructor(client: ControlClient, description: GuestDescription, vmm: VmmRemains) {
    super(client, description.name, vmm);
    this.description = description;
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

  async saveDeviceState(): Promise<Uint8Array> {
    const { state } = await this.client.execute<{ state: string }>('save-device-state');
    return Buffer.from(state, 'base64');
  }
}
