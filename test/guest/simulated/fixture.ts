import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BootOptions,
  bootSimulatedGuest,
  type RunningVmm,
} from '../../../lib/guest/simulated/boot.ts';
import { ControlClient } from '../../../lib/guest/simulated/control-client.ts';
import type { SelfCheck } from '../../../lib/guest/simulated/machine.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';

/** A guest that is checked whole in no time. */
export const SMALL = { memory: '16MiB', vcpus: 2, seed: 7 } as const;

export interface GuestInfo {
  readonly description: { readonly regions: readonly { readonly pages: number }[] };
  readonly memory: readonly { readonly path: string }[];
  readonly pid: number;
  readonly status: string;
  readonly written: number;
}

/** A booted guest and a connection to it. */
export class TestGuest {
  readonly vmm: RunningVmm;
  readonly client: ControlClient;

  constructor(vmm: RunningVmm, client: ControlClient) {
    this.vmm = vmm;
    this.client = client;
  }

  info(): Promise<GuestInfo> {
    return this.client.execute('query-guest');
  }

  selfCheck(): Promise<SelfCheck> {
    return this.client.execute('self-check');
  }

  /** Harvests the dirty log. */
  async sync(): Promise<PageSet> {
    const { bitmap } = await this.client.execute<{ bitmap: string }>('dirty-log-sync');
    const pages = (await this.info()).description.regions[0]!.pages;
    const set = new PageSet(pages);
    set.bytes.set(Buffer.from(bitmap, 'base64'));
    return set;
  }

  /** Waits until the guest has written this many more pages. */
  async writes(pages: number): Promise<void> {
    const { written } = await this.info();
    await until(async () => (await this.info()).written >= written + pages);
  }
}

/** A directory of guests; `dispose` kills what the test left running and removes all files. */
export class GuestDir {
  readonly dir = mkdtempSync(join(tmpdir(), 'godwit-vmm-'));
  readonly #pids: number[] = [];
  readonly #clients: ControlClient[] = [];
  readonly #ramFiles: string[] = [];

  async boot(name: string, options: Partial<BootOptions> = {}): Promise<TestGuest> {
    const vmm = await bootSimulatedGuest({ ...SMALL, ...options, name, dir: this.dir });
    this.track(vmm.pid);
    const guest = new TestGuest(vmm, await this.connect(vmm.socket, name));
    this.#ramFiles.push((await guest.info()).memory[0]!.path);
    return guest;
  }

  async connect(socket: string, name: string): Promise<ControlClient> {
    const client = await ControlClient.connect(socket, name);
    this.#clients.push(client);
    return client;
  }

  track(pid: number): void {
    this.#pids.push(pid);
  }

  dispose(): void {
    for (const client of this.#clients) client.close();
    for (const pid of this.#pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    for (const file of this.#ramFiles) rmSync(file, { force: true });
    for (const link of readdirSync(this.dir).filter((file) => file.endsWith('.ram')))
      rmSync(readlinkSync(join(this.dir, link)), { force: true });
    rmSync(this.dir, { recursive: true });
  }
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await condition()); await sleep(5))
    if (Date.now() > deadline) throw new Error(`not within 30 s: ${condition}`);
}

export function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}
