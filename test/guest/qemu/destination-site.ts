import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import type { DestinationGuest, GuestDescription } from '../../../lib/guest/guest.ts';
import type { ProcessIdentity } from '../../../lib/guest/process-identity.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { startQemuDestination } from '../../../lib/guest/qemu/destination.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';
import { StreamParser } from '../../../lib/stream/qemu/parser.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { type QemuVersion, qemuProgram } from '../../qemu/guest/installed.ts';
import { ASKED_ON_STDIO, hasStarted } from '../../qemu/guest/started.ts';
import { capture } from '../../stream/qemu/captures.ts';
import { Courier } from './courier.ts';

const crew = crewOfTest();

/** The machine of the recorded guests (see stream/capture.ts), which never ran. */
export interface Machine {
  readonly qemu: QemuVersion;
  /** Whether pages are written into the RAM file. */
  readonly placement: 'direct' | 'stream';
  readonly machine?: string;
  readonly memory?: string;
  readonly devices?: readonly string[];
  /** What else follows the RAM file in its backend's options. */
  readonly backend?: string;
}

export const VIRTIO = ['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'];

/** What a definition has beside its command. */
export type DefinitionParts = Partial<Pick<GuestDefinition, 'ram' | 'limits' | 'qmp'>>;

/** A host for recorded guests to arrive at. */
export class DestinationSite {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-destination-'));
  readonly memoryDir = fs.mkdtempSync('/dev/shm/godwit-destination-');
  readonly qmp = path.join(this.dir, 'qmp');
  readonly log = path.join(this.dir, 'log');
  readonly ramFile = path.join(this.memoryDir, 'ram');

  async remove(): Promise<void> {
    for (const pid of this.processes()) process.kill(pid, 'SIGKILL');
    await until(() => this.processes().length === 0, 'what was started is gone');
    for (const dir of [this.dir, this.memoryDir]) fs.rmSync(dir, { recursive: true });
  }

  command(of: Machine): string[] {
    const { qemu, machine = 'q35', memory = '8M', devices = VIRTIO, backend = 'share=on' } = of;
    const file = `memory-backend-file,id=ram,size=${memory},mem-path=${this.ramFile},${backend}`;
    return [
      qemuProgram(qemu),
      ...['-nodefaults', '-display', 'none', '-bios', 'qboot.rom', '-m', memory],
      ...['-machine', `${machine},memory-backend=ram`, '-object', file, ...devices],
      ...['-qmp', `unix:${this.qmp},server=on,wait=off`],
    ];
  }

  definition(of: Machine, parts: DefinitionParts = {}): GuestDefinition {
    return { ...this.withoutCommand(of, parts), command: this.command(of) };
  }

  withoutCommand({ placement }: Machine, parts: DefinitionParts = {}): GuestDefinition {
    const file = path.join(this.dir, 'vm1.json');
    const ram = placement === 'direct' ? [{ block: 'ram', file: this.ramFile }] : [];
    const { qmp } = this;
    return { name: 'vm1', file, hypervisor: 'qemu', qmp, ram, hooks: {}, limits: {}, ...parts };
  }

  /** A QEMU that was there before the migration, and that prints to the log. */
  async start(command: readonly string[], ...more: string[]): Promise<ProcessIdentity> {
    const [program, ...args] = [...command, ...more, ...ASKED_ON_STDIO] as [string, ...string[]];
    const log = fs.openSync(this.log, 'a');
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', log] });
    fs.closeSync(log);
    await hasStarted(child);
    const qmp = await QmpClient.connect(this.qmp);
    const process = await qmp.process();
    qmp.close();
    return process;
  }

  /** What a destination has said its handle is, oldest first. */
  readonly handles: string[] = [];

  startDestination(definition: GuestDefinition, description: GuestDescription) {
    const { memoryDir: stagingDir, log: logFile } = this;
    const known = async (handle: string) => void this.handles.push(handle);
    return startQemuDestination({ crew, definition, description, stagingDir, logFile, known });
  }

  /** Pids of what was started here. */
  processes(): number[] {
    const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return pids.map(Number).filter((pid) => pid !== process.pid && this.#isOurs(pid));
  }

  /** No process, no memory, no socket but the one that only a QEMU that is not killed removes. */
  expectNothingLeft({ placement }: Machine): void {
    expect(this.processes()).toEqual([]);
    const qemusOwn = placement === 'stream' ? ['ram'] : [];
    expect(fs.readdirSync(this.memoryDir).filter((name) => !qemusOwn.includes(name))).toEqual([]);
    const names = fs.readdirSync(this.dir).filter((name) => name !== 'log' && name !== 'qmp');
    expect(names).toEqual([]);
  }

  #isOurs(pid: number): boolean {
    try {
      return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(this.dir);
    } catch {
      return false;
    }
  }
}

/** Brings a recorded guest to a destination, up to where only its device state is missing. */
export async function bring(
  recording: string,
  ready: (of: GuestDescription) => Promise<DestinationGuest>,
): Promise<Courier> {
  const courier = new Courier('vm1');
  const stream = capture(recording);
  for (let at = 0; at < stream.length; at += 65536)
    await courier.take(stream.subarray(at, at + 65536), ready);
  assert(courier.complete);
  return courier;
}

/** What a source would say about a recorded guest. */
export async function describeRecorded(recording: string): Promise<GuestDescription> {
  const courier = new Courier('vm1');
  const enough = new Error('described');
  await courier
    .take(capture(recording), () => Promise.reject(enough))
    .catch((error) => assert.equal(error, enough));
  return courier.description;
}

/** What a RAM block holds when the recorded stream is through. */
export function imageOf(recording: string, block: string, bytes: number): Buffer {
  const image = Buffer.alloc(bytes);
  let wanted = -1;
  const parser = new StreamParser({
    blocks: (blocks) => {
      wanted = blocks.findIndex(({ name }) => name === block);
    },
    page: (of, offset, bytes, at) => of === wanted && bytes.copy(image, offset, at, at + PAGE_SIZE),
    zero: (of, offset) => of === wanted && image.fill(0, offset, offset + PAGE_SIZE),
    command: () => {},
    ramEnded: () => {},
    tail: () => {},
  });
  parser.feed(capture(recording));
  return image;
}

/** The sentence that a promise is rejected with. */
export async function refusal(promise: Promise<unknown>, code: string): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: GodwitError) => thrown,
  );
  expect(error).toBeInstanceOf(GodwitError);
  expect(error).toMatchObject({ code });
  expect(error!.message).not.toMatch(/\p{Cc}/u);
  return error!.message;
}
