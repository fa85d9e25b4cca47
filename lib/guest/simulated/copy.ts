import { GodwitError } from '../../errors.ts';
import type { GuestCopy, GuestDescription, GuestSuspension } from '../guest.ts';
import { ControlClient } from './control-client.ts';
import type { MachineStatus } from './machine.ts';
import { socketPath } from './socket-claim.ts';
import { endVmm, type VmmRemains } from './vmm-end.ts';

/** What a VMM answers to query-guest. */
export interface GuestAnswer extends Omit<VmmRemains, 'socket'> {
  readonly description: GuestDescription;
  readonly status: MachineStatus;
}

/** A simulated guest by its VMM's control socket; both sides of a migration build on it. */
export class SimulatedCopy implements GuestCopy {
  protected readonly client: ControlClient;
  protected readonly vmm: VmmRemains;
  readonly #name: string;

  constructor(client: ControlClient, name: string, vmm: VmmRemains) {
    this.client = client;
    this.vmm = vmm;
    this.#name = name;
  }

  /** The VMM's process: another one of the same name is another guest. */
  get handle(): string {
    return String(this.vmm.pid);
  }

  get memory() {
    return this.vmm.memory;
  }

  async suspend(onStop?: () => void): Promise<void> {
    onStop?.();
    await this.client.execute('stop');
  }

  /** It never resumes by itself. */
  async seal(): Promise<void> {}

  /** The VMM answers after the guest's first heartbeat. */
  async resume(): Promise<void> {
    await this.client.execute('cont');
  }

  async suspension(): Promise<GuestSuspension | undefined> {
    const answer = await this.client.execute<{ lastSuspension?: GuestSuspension }>(
      'query-heartbeat',
    );
    return answer.lastSuspension;
  }

  async stopDirtyLog(): Promise<void> {
    await this.client.execute('dirty-log-stop');
  }

  destroy(): Promise<void> {
    return endVmm(this.client, this.vmm);
  }

  onDeath(listener: (error: Error) => void): void {
    this.client.onClose(() =>
      listener(new GodwitError('guest-died', `the VMM of guest ${this.#name} is gone`)),
    );
  }

  close(): void {
    this.client.close();
  }
}

/**
 * The copy that an earlier run of the agent had in hand, undefined when it is gone. Without a handle
 * it is one that this host was just making room for: then only a VMM that still waits to be filled
 * can be it.
 */
export async function attachSimulated(
  dir: string,
  name: string,
  handle: string,
): Promise<SimulatedCopy | undefined> {
  const socket = socketPath(dir, name);
  const client = await ControlClient.connect(socket, name).catch(() => undefined);
  if (client === undefined) return undefined;
  const answer = await client.execute<GuestAnswer>('query-guest');
  const copy = new SimulatedCopy(client, name, { ...answer, socket });
  const ours = handle === '' ? answer.status === 'inmigrate' : handle === copy.handle;
  if (ours) return copy;
  copy.close();
  return undefined;
}
