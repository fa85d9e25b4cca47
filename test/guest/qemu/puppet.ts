import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { until } from '../../e2e/hosts.ts';
import { type QemuVersion, qemuProgram } from '../../qemu/guest/installed.ts';

/** What the guest does when it is told: it panics, shuts itself down, or reads where its disk fails. */
export type Act = 'panic' | 'shut-down' | 'read';

const WORDS: Readonly<Record<Act, number>> = { panic: 0x70, 'shut-down': 0x73, read: 0x64 };

/**
 * Waits for a word on its serial port, which it says `!` on first. Real mode, at 0000:7c00.
 * The panic is a pvpanic device's (port 0x505), the end ACPI's (PM1a_CNT, port 0x604).
 */
const BOOT_SECTOR = Buffer.from([
  ...[0x31, 0xc0, 0x8e, 0xc0, 0xbb, 0x00, 0x7e], // es:bx = 0000:7e00
  ...[0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee], // out 0x3f8, '!'
  ...[0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8], // wait for bit 0 of 0x3fd
  ...[0xba, 0xf8, 0x03, 0xec], // in al, 0x3f8
  ...[0x3c, 0x70, 0x75, 0x06, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee], // 'p': out 0x505, 1
  ...[0x3c, 0x73, 0x75, 0x07, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef], // 's': out 0x604, 0x2000
  ...[0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xcd, 0x13], // int 0x13: read sector 1
  ...[0xeb, 0xf3], // once more
]);

/**
 * All of it is zeros, nine bytes a page in a migration's stream: more than QEMU's socket and the agent's
 * first read can hold, so that QEMU does not end its first pass before somebody wants pages.
 */
const MEMORY = '512M';

/** A QEMU with a guest that stops when and why a test wants it to. */
export class Puppet {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-puppet-'));
  readonly monitor = path.join(this.dir, 'qmp');
  readonly #serial = path.join(this.dir, 'serial');
  readonly #process: ChildProcess;
  #console!: net.Socket;
  /** The test's own monitor. */
  qmp!: QmpClient;

  static async start(qemu: QemuVersion): Promise<Puppet> {
    const puppet = new Puppet(qemu);
    try {
      await puppet.#connect();
    } catch (error) {
      await puppet.end();
      throw error;
    }
    return puppet;
  }

  private constructor(qemu: QemuVersion) {
    const disk = path.join(this.dir, 'disk');
    const sector = Buffer.alloc(512);
    BOOT_SECTOR.copy(sector);
    sector.writeUInt16LE(0xaa55, 510);
    fs.writeFileSync(disk, Buffer.concat([sector, Buffer.alloc(1 << 20)]));
    const fails = (i: number, what: string) => `file.inject-error.${i}.${what}`;
    const drive = [
      ...['if=none,id=disk,format=raw,file.driver=blkdebug,file.image.driver=file'],
      `file.image.filename=${disk}`,
      ...[fails(0, 'event=read_aio'), fails(0, 'sector=1'), fails(0, 'errno=5')],
      ...[fails(0, 'once=off'), 'rerror=stop,werror=stop'],
    ].join(',');
    const monitor = (file: string) => ['-qmp', `unix:${file},server=on,wait=off`];
    this.#process = spawn(
      qemuProgram(qemu),
      [
        ...['-accel', 'tcg', '-nodefaults', '-no-user-config', '-display', 'none', '-m', MEMORY],
        ...['-machine', 'pc', '-no-shutdown', '-device', 'pvpanic', '-drive', drive],
        ...['-device', 'ide-hd,drive=disk', '-boot', 'c'],
        ...['-chardev', `socket,id=serial,path=${this.#serial},server=on,wait=on`],
        ...['-serial', 'chardev:serial', ...monitor(this.monitor), ...monitor(`${this.monitor}2`)],
      ],
      { stdio: 'ignore' },
    );
  }

  get definition(): GuestDefinition {
    const { monitor: qmp } = this;
    return { name: 'vm1', file: '', hypervisor: 'qemu', qmp, ram: [], hooks: {}, limits: {} };
  }

  /** It does so as soon as it runs. */
  act(act: Act): void {
    this.#console.write(Buffer.from([WORDS[act]]));
  }

  /** QEMU's own word. */
  async status(): Promise<string> {
    return (await this.qmp.execute<{ status: string }>('query-status')).status;
  }

  async end(): Promise<void> {
    this.qmp?.close();
    this.#console?.destroy();
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill('SIGKILL');
      await once(this.#process, 'exit');
    }
    fs.rmSync(this.dir, { recursive: true });
  }

  async #connect(): Promise<void> {
    // The socket is there a moment before QEMU listens on it.
    await until(async () => {
      this.#console = net.connect(this.#serial);
      return once(this.#console, 'connect').then(
        () => true,
        () => false,
      );
    }, 'QEMU opens its serial port');
    await once(this.#console, 'data'); // the guest is up
    this.qmp = await QmpClient.connect(`${this.monitor}2`);
  }
}
