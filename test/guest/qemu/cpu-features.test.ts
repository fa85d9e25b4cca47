import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  cpuFeatures,
  missing,
  readCpuFeatures,
  requireCpu,
} from '../../../lib/guest/qemu/cpu-features.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { type QemuVersion, qemuProgram, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import { ASKED_ON_STDIO, hasStarted } from '../../qemu/guest/started.ts';

const lacking = (needed: string, given: string) =>
  missing(readCpuFeatures(needed), readCpuFeatures(given));

test('features are named as QEMU names them, and by number where nobody knows them', () => {
  expect(lacking('1.ecx=2001+7.0.ebx=20', '1.ecx=1')).toEqual(['cx16', 'avx2']);
  expect(lacking('7.0.edx=80000000+14.0.ecx=80000001', '')).toEqual([
    'ssbd',
    'CPUID 14.0.ecx bit 0',
    'CPUID 14.0.ecx bit 31',
  ]);
  expect(lacking('1.ecx=2001', '1.ecx=ffffffff+7.0.ebx=1')).toEqual([]);
  expect(lacking('', '1.ecx=1')).toEqual([]);
  expect(lacking('1.edx=10000001+80000001.ecx=2', '1.edx=1'), 'several processors').toEqual([]);
});

test.each(['1.ecx', '1.ecx=', '1.esi=1', '1.ecx=1+', '1.ecx=123456789', 'x=1'])(
  '%s from a peer is refused',
  (text) => {
    expect(() => readCpuFeatures(text)).toThrow(/no features of CPUID/);
  },
);

describe.skipIf(whyNoQemu())(titled("QEMU's processors"), () => {
  let dir: string;
  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-cpu-'));
  });
  afterEach(() => fs.rmSync(dir, { recursive: true }));

  async function withCpu<T>(
    qemu: QemuVersion,
    machine: string,
    cpu: string,
    ask: (qmp: QmpClient) => Promise<T>,
  ): Promise<T> {
    const monitor = path.join(dir, 'qmp');
    const args = ['-nodefaults', '-display', 'none', '-accel', 'tcg', '-m', '16M', '-S'];
    const of = ['-machine', machine, '-cpu', cpu, '-qmp', `unix:${monitor},server=on,wait=off`];
    const process = spawn(qemuProgram(qemu), [...args, ...of, ...ASKED_ON_STDIO], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const exit = once(process, 'exit');
    try {
      await hasStarted(process);
      const qmp = await QmpClient.connect(monitor);
      return await ask(qmp).finally(() => qmp.close());
    } finally {
      process.kill('SIGKILL');
      await exit;
    }
  }

  test('are alike in both versions, and what one lacks is refused by name', async () => {
    const machine = 'pc-q35-7.2';
    const old = await withCpu('7.2', machine, 'qemu64', cpuFeatures);
    expect(readCpuFeatures(old).get('80000001.edx')! & (1 << 29), 'long mode').not.toBe(0);
    const definition = { name: 'vm1', file: '/etc/vm1.json' };
    const most = await withCpu('10.0', 'microvm', 'max', cpuFeatures);
    await withCpu('10.0', machine, 'qemu64', async (qmp) => {
      await requireCpu(old, qmp, definition);
      await requireCpu('', qmp, definition);
      await expect(requireCpu(most, qmp, definition)).rejects.toMatchObject({
        code: 'definition-invalid',
        message: expect.stringMatching(/^\/etc\/vm1.json: .*: pclmulqdq, .* and \d+ more; give/),
      });
    });
  });
});
