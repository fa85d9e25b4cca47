import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GuestOutline } from '../../../lib/guest/hypervisor.ts';
import { machineFinding } from '../../../lib/guest/qemu/can-take.ts';
import { QemuHypervisor } from '../../../lib/guest/qemu/hypervisor.ts';
import { machineOf } from '../../../lib/guest/qemu/machine.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { qemuProgram, whyNoQemu } from '../../qemu/guest/installed.ts';

const crew = crewOfTest();

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-can-take-'));
  fs.mkdirSync(at('guests.d'), { mode: 0o700 });
  fs.writeFileSync(at('qemu'), '#!/bin/sh\n', { mode: 0o755 });
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const at = (...names: string[]) => path.join(dir, ...names);
const GUEST: GuestOutline = {
  ...{ name: 'vm1', hypervisor: 'qemu', machine: 'pc-q35-10.0', memoryBytes: 64 << 20 },
};

function define(over: object = {}): void {
  const qmp = at('vm1.qmp');
  const command = [at('qemu'), '-machine', 'pc-q35-10.0', '-qmp', `unix:${qmp},server=on,wait=off`];
  const text = JSON.stringify({ hypervisor: 'qemu', qmp, command, ...over });
  fs.writeFileSync(at('guests.d', 'vm1.json'), text, { mode: 0o600 });
}

async function findings(guest: Partial<GuestOutline> = {}, verify = false) {
  const places = { definitions: at('guests.d'), ramDir: dir, stateDir: at('state') };
  const found = await new QemuHypervisor(places, crew).canTake({ ...GUEST, ...guest }, verify);
  expect(fs.existsSync(at('state')), 'nothing is made').toBe(false);
  return Object.fromEntries(found.map(({ about, verdict, code }) => [about, code || verdict]));
}

const GOOD = { definition: 'ok', command: 'ok', machine: 'ok', name: 'ok', 'ram-files': 'ok' };

describe('whether a QEMU guest would be taken', () => {
  test('it would, and nothing is made or started for the answer', async () => {
    define();
    const before = fs.readdirSync(dir);
    expect(await findings()).toEqual(GOOD);
    expect(fs.readdirSync(dir)).toEqual(before);
  });

  test('without a definition', async () => {
    expect(await findings()).toEqual({ definition: 'unknown-guest' });
  });

  test('a program that is not there, or cannot be executed', async () => {
    fs.chmodSync(at('qemu'), 0o644);
    define();
    // root may execute nothing without an x bit either
    expect(await findings()).toEqual({ ...GOOD, command: 'hypervisor-failed' });
    fs.rmSync(at('qemu'));
    expect(await findings()).toEqual({ ...GOOD, command: 'hypervisor-failed' });
  });

  test('another machine', async () => {
    define();
    expect(await findings({ machine: 'pc-q35-7.2' })).toMatchObject({
      machine: 'definition-invalid',
    });
  });

  test('a name that is taken', async () => {
    define();
    const server = net.createServer().listen(at('vm1.qmp'));
    await new Promise((resolve) => server.once('listening', resolve));
    expect(await findings()).toEqual({ ...GOOD, name: 'guest-exists' });
    await new Promise((resolve) => server.close(resolve));
  });

  test('more memory than the definition allows, or than there is room for', async () => {
    define({ limits: { memory: '32MiB' } });
    expect(await findings()).toEqual({ ...GOOD, definition: 'memory-insufficient' });
    define();
    expect(await findings({ memoryBytes: 2 ** 50 })).toMatchObject({
      'ram-files': 'memory-insufficient',
    });
  });

  test('a RAM file that is left over is no obstacle, one that is in use is', async () => {
    const file = at('vm1.ram');
    const command = [at('qemu'), '-M', 'type=pc-q35-10.0', '-qmp', `unix:${at('vm1.qmp')}`, file];
    define({ command, ram: [{ block: 'ram', file }] });
    fs.writeFileSync(file, 'left by a guest that is dead');
    expect(await findings()).toEqual(GOOD);
    expect(fs.existsSync(file)).toBe(true);
    const fd = fs.openSync(file, 'r');
    expect(await findings()).toEqual({ ...GOOD, 'ram-files': 'guest-exists' });
    fs.closeSync(fd);
  });

  test('--verify of memory that cannot be read', async () => {
    define();
    expect(await findings({}, true)).toEqual({ ...GOOD, definition: 'definition-invalid' });
  });

  test('no command, and no QEMU that waits', async () => {
    define({ command: undefined });
    expect(await findings()).toEqual({ definition: 'ok', name: 'hypervisor-failed' });
  });

  test.skipIf(whyNoQemu())('a QEMU that waits already, by its own word what it is', async () => {
    define({ command: undefined });
    const monitor = `unix:${at('vm1.qmp')},server=on,wait=off`;
    const args = ['-accel', 'tcg', '-nodefaults', '-display', 'none', '-m', '16M', '-qmp', monitor];
    const waiting = ['-machine', 'pc', '-S', '-incoming', 'defer'];
    const qemu = spawn(qemuProgram('10.0'), [...args, ...waiting], { stdio: 'ignore' });
    try {
      await until(() => QmpClient.serves(at('vm1.qmp')), 'QEMU serves its monitor');
      const other = { definition: 'ok', name: 'ok', machine: 'definition-invalid' };
      expect(await findings()).toEqual(other);
      expect(await findings(), 'its monitor is free again, and it still waits').toEqual(other);
    } finally {
      qemu.kill('SIGKILL');
      await once(qemu, 'exit');
    }
  });

  test('hooks that are not there', async () => {
    const places = { definitions: at('guests.d'), ramDir: dir, stateDir: at('state') };
    const qemu = new QemuHypervisor(places, crew);
    expect(await qemu.hooksOf('vm1')).toMatchObject({ verdict: 'ok', text: 'none' });
    define({ hooks: { preSuspend: { command: [at('qemu')] } } });
    expect(await qemu.hooksOf('vm1')).toMatchObject({ verdict: 'ok' });
    define({ hooks: { preSuspend: { command: [at('no-such')] } } });
    expect(await qemu.hooksOf('vm1')).toMatchObject({ verdict: 'no', code: 'hook-failed' });
  });
});

test.each([
  [['-machine', 'q35,memory-backend=ram'], 'q35'],
  [['-m', '4G', '-M', 'pc-i440fx-7.2'], 'pc-i440fx-7.2'],
  [['--machine', 'memory-backend=ram,type=virt'], 'virt'],
  [['-machine', 'pc', '-machine', 'q35'], 'q35'],
  [['-machine', 'memory-backend=ram'], undefined],
  [['-cpu', 'host'], undefined],
])('the machine of %j is %s', (args, machine) => {
  expect(machineOf(['/usr/bin/qemu', ...args])).toBe(machine);
});

test.each([
  ['pc-q35-10.0', 'pc-q35-10.0', 'ok'],
  ['pc-q35-10.0', 'pc-q35-7.2', 'no'],
  ['pc-q35-10.0', 'q35', 'unknown'],
  ['pc-q35-10.0', 'pc', 'no'],
  ['pc-i440fx-7.2', 'pc', 'unknown'],
  ['virt-10.0', 'virt', 'unknown'],
  ['pc-q35-10.0', undefined, 'unknown'],
])('a guest of machine %s on one of %s: %s', (needed, given, verdict) => {
  expect(machineFinding(needed, given, { file: 'vm1.json' }).verdict).toBe(verdict);
});
