import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import type { DestinationGuest, GuestDescription } from '../../../lib/guest/guest.ts';
import { attachQemu } from '../../../lib/guest/qemu/copy.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { startQemuDestination } from '../../../lib/guest/qemu/destination.ts';
import { isAlive, processBehind } from '../../../lib/guest/qemu/process-identity.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { StreamParser } from '../../../lib/guest/qemu/stream/parser.ts';
import { until } from '../../e2e/hosts.ts';
import { type QemuVersion, qemuProgram, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import { Courier } from './courier.ts';
import { capture } from './stream/captures.ts';

const MIB = 2 ** 20;
const VERSIONS: readonly QemuVersion[] = ['10.0', '7.2'];
const VIRTIO = ['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'];

/** The machine of the recorded guests (see stream/capture.ts), which never ran. */
interface Machine {
  readonly qemu: QemuVersion;
  readonly machine?: string;
  readonly memory?: string;
  readonly devices?: readonly string[];
  /** `file`: in a RAM file. `private`: in one that is not shared. */
  readonly ram?: 'file' | 'private' | 'anonymous';
  /** Whether pages are written into the RAM file. */
  readonly placement: 'direct' | 'stream';
}

let dir: string;
let memoryDir: string;
let courier: Courier;
const children: ChildProcess[] = [];

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-destination-'));
  memoryDir = fs.mkdtempSync('/dev/shm/godwit-destination-');
  courier = new Courier('vm1');
});

afterEach(async () => {
  courier.close();
  await courier.destination?.destroy();
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  for (const pid of leftOver()) process.kill(pid, 'SIGKILL');
  for (const each of [dir, memoryDir]) fs.rmSync(each, { recursive: true });
});

const file = (name: string) => path.join(dir, name);
const ramFile = () => path.join(memoryDir, 'ram');

function commandOf(of: Machine): string[] {
  const { qemu, machine = 'q35', memory = '8M', devices = VIRTIO, ram = 'file' } = of;
  const share = ram === 'file' ? 'on' : 'off';
  const backend = {
    file: `memory-backend-file,id=ram,size=${memory},mem-path=${ramFile()},share=${share}`,
    private: `memory-backend-file,id=ram,size=${memory},mem-path=${ramFile()},share=${share}`,
    anonymous: `memory-backend-ram,id=ram,size=${memory}`,
  }[ram];
  return [
    qemuProgram(qemu),
    ...['-nodefaults', '-display', 'none', '-bios', 'qboot.rom', '-m', memory],
    ...['-machine', `${machine},memory-backend=ram`, '-object', backend, ...devices],
    ...['-qmp', `unix:${file('qmp')},server=on,wait=off`],
  ];
}

function definitionOf(of: Machine): GuestDefinition {
  const ram = of.placement === 'direct' ? [{ block: 'ram', file: ramFile() }] : [];
  const base = {
    name: 'vm1',
    file: file('vm1.json'),
    hypervisor: 'qemu',
    qmp: file('qmp'),
  } as const;
  return { ...base, command: commandOf(of), ram, hooks: {}, limits: {} };
}

/** Starts a destination for what the courier has. */
function readyWith(definition: GuestDefinition, more: { stagingDir?: string } = {}) {
  return (description: GuestDescription) =>
    startQemuDestination({
      definition,
      description,
      stagingDir: memoryDir,
      logFile: file('log'),
      ...more,
    });
}

/** Brings a recorded guest to the point where only its device state is missing. */
async function bring(
  recording: string,
  ready: (of: GuestDescription) => Promise<DestinationGuest>,
): Promise<DestinationGuest> {
  const stream = capture(recording);
  for (let at = 0; at < stream.length; at += 65536)
    await courier.take(stream.subarray(at, at + 65536), ready);
  assert(courier.complete);
  return courier.destination;
}

/** What a RAM block must be once the recorded stream is through. */
function imageOf(recording: string, block: string, bytes: number): Buffer {
  const image = Buffer.alloc(bytes);
  let wanted = -1;
  const parser = new StreamParser({
    blocks: (blocks) => {
      wanted = blocks.findIndex(({ name }) => name === block);
    },
    page: (of, offset, page) => of === wanted && page.copy(image, offset),
    zero: (of, offset) => of === wanted && image.fill(0, offset, offset + 4096),
    command: () => {},
    ramEnded: () => {},
    tail: () => {},
  });
  parser.feed(capture(recording));
  return image;
}

async function refusal(promise: Promise<unknown>, code: string): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: GodwitError) => thrown,
  );
  expect(error).toBeInstanceOf(GodwitError);
  expect(error!.message + error!.code).toContain(code);
  expect(error!.message).not.toMatch(/\p{Cc}/u);
  return error!.message;
}

/** Pids of the processes that were started for this test. */
function leftOver(): number[] {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => pid !== process.pid && isOurs(pid));
}

function isOurs(pid: number): boolean {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(dir);
  } catch {
    return false;
  }
}

/** No process, no memory, no socket. */
function expectNothingLeft(): void {
  expect(leftOver()).toEqual([]);
  expect(fs.readdirSync(memoryDir)).toEqual([]);
  expect(fs.readdirSync(dir).filter((name) => name !== 'log' && name !== 'qmp')).toEqual([]);
}

function pidOf(guest: DestinationGuest): number {
  return JSON.parse(guest.handle).pid;
}

describe.skipIf(whyNoQemu())(titled('a destination QEMU'), () => {
  const placements = ['direct', 'stream'] as const;
  const cases = VERSIONS.flatMap((qemu) => placements.map((placement) => ({ qemu, placement })));

  test.each(cases)('$qemu takes a guest, $placement', async (of) => {
    const recording = `q35-${of.qemu}`;
    const guest = await bring(recording, readyWith(definitionOf(of)));
    const staged = guest.memory.filter(({ path }) => path !== ramFile()).map((m) => m.region.name);
    expect(staged.includes('ram')).toBe(of.placement === 'stream');
    expect(staged).toContain('pc.bios');
    expect(fs.statSync(guest.memory.at(-1)!.path).mode & 0o777).toBe(0o600);
    await courier.finish();
    expect(fs.readdirSync(memoryDir)).toEqual(['ram']); // nothing is staged any more
    expect(fs.readFileSync(ramFile()).equals(imageOf(recording, 'ram', 8 * MIB))).toBe(true);
    guest.close();
    const copy = (await attachQemu(guest.handle))!;
    await copy.resume();
    await copy.resume();
    await copy.suspend();
    await copy.resume();
    expect(await copy.suspension()).toBeUndefined();
    await copy.destroy();
    expectNothingLeft();
    expect(await attachQemu(guest.handle)).toBeUndefined();
  });
});
