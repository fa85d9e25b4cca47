import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { GuestSite, type SiteOptions } from './guest-site.ts';
import { type QemuVersion, qemuProgram } from './installed.ts';
import { ASKED_ON_STDIO, hasStarted } from './started.ts';
import { reports } from './witness.ts';

/** For a test with guests: above the bounds of what it waits for, so that these say what did not happen. */
export const TEST_BOUND_MS = 600_000;

export interface LinuxGuestOptions extends Omit<SiteOptions, 'origin'> {
  readonly qemu?: QemuVersion;
  /** The guest to be migrated into this QEMU, which waits for it with `-incoming defer -S`. */
  readonly origin?: LinuxGuest;
  /** With `origin`: it runs as soon as it has come, without being told (no `-S`). */
  readonly runsOnArrival?: boolean;
  /** The command that puts QEMU into its network namespace. */
  readonly prefix?: readonly string[];
  /** Fills the RAM file, of one node, before the guest boots: what is not zero in memory it does not use. */
  readonly fill?: (ramFile: string) => void;
}

/** A QEMU with the Linux test guest. */
export class LinuxGuest {
  readonly site: GuestSite;
  readonly process: ChildProcess;
  /** On the test's own monitor. */
  qmp!: QmpClient;
  /** What QEMU said on stderr. */
  log = '';

  /** Starts QEMU and connects to it; `booted` waits for the guest. */
  static async start(options: LinuxGuestOptions = {}): Promise<LinuxGuest> {
    const { qemu = '10.0', origin, runsOnArrival = false, prefix = [], fill, ...rest } = options;
    const site = await GuestSite.prepare(origin ? { ...rest, origin: origin.site } : rest);
    try {
      fill?.(site.host.ramFiles[0]!);
    } catch (error) {
      await site.remove();
      throw error;
    }
    const waiting = origin ? ['-incoming', 'defer', ...(runsOnArrival ? [] : ['-S'])] : [];
    const command = [...prefix, qemuProgram(qemu), ...site.arguments, ...waiting];
    const guest = new LinuxGuest(site, command);
    await guest.#connect();
    return guest;
  }

  private constructor(site: GuestSite, command: readonly string[]) {
    this.site = site;
    const [program, ...args] = [...command, ...ASKED_ON_STDIO];
    this.process = spawn(program!, args, { stdio: 'pipe' });
    this.process.stderr!.on('data', (text) => {
      this.log += text;
    });
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** Everything that the guest does has begun, and has been reported once. */
  async booted(): Promise<void> {
    await reports(this.site, 1, 0);
  }

  async end(): Promise<void> {
    this.qmp?.close();
    if (this.alive) {
      this.process.kill('SIGKILL');
      await once(this.process, 'exit');
    }
    await this.site.remove();
  }

  async #connect(): Promise<void> {
    try {
      await hasStarted(this.process);
      this.qmp = await QmpClient.connect(this.site.host.testMonitor);
    } catch (error) {
      await this.end();
      throw new Error(`QEMU did not start: ${this.log}`, { cause: error });
    }
  }
}
