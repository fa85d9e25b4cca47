import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import { Hosts } from '../e2e/hosts.ts';
import type { Cleanup } from './bench-cleanup.ts';
import { SuspensionWatch } from './bench-watch.ts';
import { GuestSite } from './guest/guest-site.ts';
import { qemuProgram } from './guest/installed.ts';
import { LinuxGuest } from './guest/linux-guest.ts';
import { endQemu } from './migration.ts';

const GUEST = 'vm1';
const POLL_MS = 5;

/** A Linux guest that boots, both agents, and definitions of the guest for both of them. */
export class DemoSite {
  readonly #cleanup: Cleanup;
  #monitor: QmpClient | undefined;
  hosts!: Hosts;
  guest!: LinuxGuest;
  destination!: GuestSite;
  watch!: SuspensionWatch;

  constructor(cleanup: Cleanup) {
    this.#cleanup = cleanup;
  }

  async start(): Promise<void> {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-demo-'));
    this.#cleanup.defer(() => fs.rmSync(dir, { recursive: true }));
    const [here, there] = [path.join(dir, 'source'), path.join(dir, 'destination')];
    const agents = { send: ['--definitions', here], recv: ['--definitions', there] };
    for (const definitions of [here, there]) fs.mkdirSync(definitions, { mode: 0o700 });
    this.hosts = await this.#cleanup.keep(
      () => Hosts.start(agents),
      (hosts) => hosts.end(),
    );
    this.guest = await this.#cleanup.keep(
      () => LinuxGuest.start(),
      (guest) => guest.end(),
    );
    const { site } = this.guest;
    const options = { ram: 'files', memoryIn: this.hosts.ramDir, origin: site } as const;
    this.destination = await this.#cleanup.keep(() => GuestSite.prepare(options), endDestination);
    const { host, arguments: rest } = this.destination;
    define(here, { hypervisor: 'qemu', qmp: site.host.monitor });
    define(there, {
      hypervisor: 'qemu',
      qmp: host.monitor,
      command: [qemuProgram('10.0'), ...rest],
      ram: [{ block: 'pc.ram', file: host.ramFiles[0] }],
    });
    this.watch = new SuspensionWatch(this.guest.qmp);
    this.#cleanup.defer(() => this.#monitor?.close());
    this.#watchDestination(host.testMonitor);
  }

  /** Its QEMU is started by agent-recv, some time. */
  async #watchDestination(monitor: string): Promise<void> {
    while (this.#monitor === undefined && !this.#cleanup.isOver) {
      await sleep(POLL_MS);
      this.#monitor = await QmpClient.connect(monitor).catch(() => undefined);
    }
    if (this.#monitor) this.watch.watchDestination(this.#monitor);
  }
}

async function endDestination(destination: GuestSite): Promise<void> {
  await endQemu(destination.host.testMonitor);
  await destination.remove();
}

function define(dir: string, definition: object): void {
  const file = path.join(dir, `${GUEST}.json`);
  fs.writeFileSync(file, JSON.stringify(definition), { mode: 0o600 });
}
