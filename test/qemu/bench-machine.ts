import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import { until } from '../e2e/hosts.ts';
import type { Qemu } from './bench-method.ts';
import { qemuProgram } from './guest/installed.ts';

/** Name of the RAM block, with and without a file for it. */
export const RAM_BLOCK = 'pc.ram';

export interface MachineOptions {
  /** For its sockets, one machine each. */
  readonly dir: string;
  /** The command that puts it into its network namespace. */
  readonly prefix: readonly string[];
  readonly memoryBytes: number;
  /** RAM file (share=on); anonymous memory if not given. */
  readonly ram?: string | undefined;
  /** Waits for the guest of another machine. */
  readonly incoming?: boolean;
}

/**
 * A QEMU whose guest does nothing: the firmware finds no disk to boot from and halts the processor.
 * To QEMU it is a guest that runs.
 */
export class Machine implements Qemu {
  qmp!: QmpClient;
  readonly monitor: string;
  readonly process: ChildProcess;
  readonly ram: string | undefined;
  readonly #testMonitor: string;
  readonly #firmwareLog: string;
  #log = '';

  static async start(options: MachineOptions): Promise<Machine> {
    const machine = new Machine(options);
    try {
      await until(() => machine.#connect(), 'QEMU opens its monitor');
      if (!options.incoming) await until(() => machine.#isHalted(), 'the firmware gives up');
      return machine;
    } catch (cause) {
      await machine.end();
      throw new Error(`QEMU did not start: ${machine.#log.trim()}`, { cause });
    }
  }

  private constructor({ dir, prefix, memoryBytes, ram, incoming }: MachineOptions) {
    this.ram = ram;
    this.monitor = path.join(dir, 'qmp');
    this.#testMonitor = path.join(dir, 'qmp-test');
    this.#firmwareLog = path.join(dir, 'firmware.log');
    const [program, ...args] = [
      ...[...prefix, qemuProgram('10.0')],
      ...['-accel', 'tcg', '-nodefaults', '-no-user-config', '-display', 'none'],
      ...memory(memoryBytes, ram),
      ...[this.monitor, this.#testMonitor].flatMap(monitorArguments),
      ...['-chardev', `file,id=firmware,path=${this.#firmwareLog}`],
      ...['-device', 'isa-debugcon,iobase=0x402,chardev=firmware'],
      ...(incoming ? ['-incoming', 'defer'] : []),
    ] as [string, ...string[]];
    this.process = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.process.stderr!.on('data', (text) => {
      this.#log += text;
    });
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async end(): Promise<void> {
    this.qmp?.close();
    if (!this.alive) return;
    const exit = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exit;
  }

  async #connect(): Promise<boolean> {
    const qmp = await QmpClient.connect(this.#testMonitor).catch(() => undefined);
    if (qmp) this.qmp = qmp;
    else if (!this.alive) throw new Error('QEMU has ended');
    return qmp !== undefined;
  }

  #isHalted(): boolean {
    return fs.readFileSync(this.#firmwareLog, 'latin1').includes('No bootable device');
  }
}

function memory(bytes: number, file: string | undefined): string[] {
  const size = ['-m', `${bytes >> 20}M`];
  if (file === undefined) return [...size, '-machine', 'q35'];
  const backend = `memory-backend-file,id=${RAM_BLOCK},size=${bytes},mem-path=${file},share=on`;
  return [...size, '-object', backend, '-machine', `q35,memory-backend=${RAM_BLOCK}`];
}

function monitorArguments(socket: string): string[] {
  return ['-qmp', `unix:${socket},server=on,wait=off`];
}
