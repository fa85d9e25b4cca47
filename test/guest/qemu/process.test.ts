import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { endQemu, startQemu } from '../../../lib/guest/qemu/process.ts';
import { identify, isAlive, processBehind } from '../../../lib/guest/qemu/process-identity.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';

/** Where .ci/qemu puts them. */
const QEMU = (version: string) => `/opt/godwit-qemu/${version}/qemu-system-x86_64`;
const MIB = 2 ** 20;

let dir: string;
let qmp: string;
let ramFile: string;
let logFile: string;
/** What a test has started, or what may have been started behind its back. */
const started = new Set<number>();

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-process-'));
  qmp = path.join(dir, 'qmp.sock');
  logFile = path.join(dir, 'qemu.log');
  ramFile = `/dev/shm/${path.basename(dir)}.ram`;
});

afterEach(() => {
  for (const pid of started) if (isOurs(pid)) process.kill(pid, 'SIGKILL');
  started.clear();
  fs.rmSync(ramFile, { force: true });
  fs.rmSync(dir, { recursive: true });
});

function isOurs(pid: number): boolean {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(dir);
  } catch {
    return false;
  }
}

function definition(program: string, ...options: string[]): GuestDefinition {
  const monitor = ['-qmp', `unix:${qmp},server=on,wait=off`];
  const command = [program, '-display', 'none', '-nodefaults', ...monitor, ...options];
  const file = path.join(dir, 'vm1.json');
  return { name: 'vm1', file, hypervisor: 'qemu', qmp, command, ram: [], hooks: {}, limits: {} };
}

/** A machine whose memory stands in the RAM file. */
function withRam(program: string, size: string): GuestDefinition {
  const backend = `memory-backend-file,id=m0,size=${size},mem-path=${ramFile},share=on`;
  const machine = ['-machine', 'q35,memory-backend=m0', '-m', size, '-object', backend];
  return { ...definition(program, ...machine), ram: [{ block: 'm0', file: ramFile }] };
}

async function start(definition: GuestDefinition, more: object = {}) {
  const qemu = await startQemu({ definition, logFile, ...more });
  started.add(qemu.pid);
  return qemu;
}

async function refusal(promise: Promise<unknown>, code = 'hypervisor-failed'): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: GodwitError) => thrown,
  );
  expect(error).toBeInstanceOf(GodwitError);
  expect(error).toMatchObject({ code });
  expect(error!.message).not.toMatch(/\p{Cc}/u);
  return error!.message;
}

/** Pids of the processes that were started for this test. */
function leftOver(): number[] {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => pid !== process.pid && isOurs(pid));
}

describe.each(['10.0', '7.2'])('QEMU %s', (version) => {
  const program = QEMU(version);

  describe.skipIf(!fs.existsSync(program))('is started', () => {
    test('to wait for a guest, in a session of its own, and is ended by its monitor', async () => {
      const qemu = await start(definition(program, '-machine', 'none'));
      expect(await qemu.qmp.execute('query-status')).toMatchObject({ status: 'inmigrate' });
      const stat = fs.readFileSync(`/proc/${qemu.pid}/stat`, 'latin1').split(') ')[1]!.split(' ');
      expect([stat[2], stat[3]]).toEqual([`${qemu.pid}`, `${qemu.pid}`]); // group and session
      expect(identify(qemu.pid)).toEqual({ pid: qemu.pid, startTime: qemu.startTime });
      expect(processBehind(qmp)).toEqual({ pid: qemu.pid, startTime: qemu.startTime });
      let deaths = 0;
      qemu.qmp.onClose(() => deaths++);
      await endQemu(qemu, qemu.qmp);
      expect(identify(qemu.pid)).toBeUndefined();
      expect(deaths).toBe(0);
      expect(fs.existsSync(qmp)).toBe(false); // it went in order
      expect(fs.statSync(logFile).mode & 0o777).toBe(0o600);
      await endQemu(qemu); // harmless when it is gone
    });

    test('with fresh RAM files that nobody else may read', async () => {
      fs.writeFileSync(ramFile, 'left by a dead guest', { mode: 0o644 });
      const ramSizes = new Map([
        ['m0', 32 * MIB],
        ['pc.bios', 262144],
      ]);
      const qemu = await start(withRam(program, '32M'), { ramSizes });
      const { size, blocks, mode } = fs.statSync(ramFile);
      expect({ size, blocks, mode: mode & 0o777 }).toEqual({
        size: 32 * MIB,
        blocks: 0,
        mode: 0o600,
      });
      const [backend] = await qemu.qmp.execute<object[]>('query-memdev');
      expect(backend).toMatchObject({ id: 'm0', size: 32 * MIB, share: true });
      await endQemu(qemu, qemu.qmp);
    });

    test('without sizes it makes the RAM files itself, but not of old content', async () => {
      fs.writeFileSync(ramFile, Buffer.alloc(32 * MIB, 1));
      const qemu = await start(withRam(program, '32M'));
      const { size, blocks } = fs.statSync(ramFile);
      expect({ size, blocks }).toEqual({ size: 32 * MIB, blocks: 0 });
      await endQemu(qemu, qemu.qmp);
    });

    test('and its own words tell why it does not', async () => {
      const first = await refusal(start(definition(program, '-device', 'warp-drive')));
      expect(first).toMatch(
        /^QEMU of guest vm1 exited with 1: .*'warp-drive' is not a valid device/,
      );
      const second = await refusal(start(definition(program, '-machine', 'pc-abacus')));
      expect(second).toContain('unsupported machine type');
      expect(second).not.toContain('warp-drive'); // though it stands in the same log
      expect(fs.readFileSync(logFile, 'utf8')).toContain('warp-drive');
      expect(leftOver()).toEqual([]);
    });

    test('and a RAM file of another size than the definition has is an error of its own', async () => {
      const ramSizes = new Map([['m0', 16 * MIB]]);
      const message = await refusal(start(withRam(program, '32M'), { ramSizes }));
      expect(message).toMatch(/exited with 1: .*backing store size 0x1000000 .*'size' option/);
      expect(fs.existsSync(ramFile)).toBe(false);
    });

    test('only once', async () => {
      const wanted = withRam(program, '32M');
      const qemu = await start(wanted);
      const waiting = QmpClient.connect(qmp, { greetingLimitMs: 60_000 }).catch(() => {});
      for (let attempt = 0; attempt < 3; attempt++)
        expect(await refusal(start(wanted), 'guest-exists')).toBe(
          `guest vm1 is here already: QEMU serves ${qmp}`,
        );
      expect(fs.existsSync(ramFile)).toBe(true);
      expect(isAlive(qemu)).toBe(true);
      await endQemu(qemu, qemu.qmp);
      await waiting;
    });

    test('again where one was killed', async () => {
      const wanted = withRam(program, '32M');
      const ramSizes = new Map([['m0', 32 * MIB]]);
      let last = 0;
      for (let round = 0; round < 10; round++) {
        const qemu = await start(wanted, { ramSizes });
        expect(qemu.pid).not.toBe(last);
        last = qemu.pid;
        await endQemu(qemu);
        expect(identify(qemu.pid)).toBeUndefined();
        expect(processBehind(qmp)).toBeUndefined();
        expect(fs.existsSync(qmp)).toBe(true); // nobody could remove it
      }
    });

    test('and is killed when it does not quit', async () => {
      const qemu = await start(definition(program, '-machine', 'none'));
      process.kill(qemu.pid, 'SIGSTOP');
      await endQemu(qemu, qemu.qmp);
      expect(identify(qemu.pid)).toBeUndefined();
    });

    test('and what it says later is at hand', async () => {
      const qemu = await start(withRam(program, '32M'));
      expect(qemu.lastWords()).toBe('');
      const died = new Promise((resolve) => qemu.qmp.onClose(resolve));
      const stream = path.join(dir, 'stream');
      fs.writeFileSync(stream, 'this is no stream of a guest');
      await qemu.qmp.execute('migrate-incoming', { uri: `exec:cat ${stream}` });
      expect(await died).toMatchObject({ code: 'guest-died' });
      while (isAlive(qemu)) await sleep(5);
      expect(qemu.lastWords()).toContain('Not a migration stream');
    });
  });
});

describe.skipIf(!fs.existsSync(QEMU('10.0')))('a command', () => {
  test('that drops its last arguments leaves nothing running', async () => {
    const real = definition(QEMU('10.0'), '-machine', 'none').command!;
    const dropping = `exec "$0" ${real.slice(1).join(' ')}`;
    const command = ['/bin/sh', '-c', dropping, real[0]!];
    const message = await refusal(start({ ...definition(''), command }));
    expect(message).toContain('is running instead of waiting for a migration');
    expect(leftOver()).toEqual([]);
  });
});

describe('a command', () => {
  test('that is no QEMU', async () => {
    const shell = (script: string) => ({
      ...definition(''),
      command: ['/bin/sh', '-c', script, 'sh', dir],
    });
    expect(await refusal(start(shell('exit 7')))).toBe(
      `QEMU of guest vm1 exited with 7: it printed nothing to ${logFile}`,
    );
    expect(await refusal(start(shell('echo "one\ntwo"; echo three >&2; exit 0')))).toBe(
      'QEMU of guest vm1 exited with 0: one; two; three',
    );
    expect(await refusal(start(shell('kill -SEGV $$')))).toContain('was ended by SIGSEGV');
    const endless = start(shell('echo busy; exec sleep 1000'), { limitMs: 100 });
    expect(await refusal(endless)).toMatch(
      /^QEMU of guest vm1 does not serve its QMP socket within 100 ms: (busy|it printed nothing)/,
    );
    expect(leftOver()).toEqual([]);
  });

  test('that cannot be started', async () => {
    const missing = path.join(dir, 'missing');
    expect(await refusal(start(definition(missing)))).toBe(
      `QEMU of guest vm1 cannot be started: spawn ${missing} ENOENT`,
    );
    logFile = path.join(dir, 'nowhere', 'log');
    expect(await refusal(start(definition('/bin/true')))).toContain(
      'cannot be started: its log: ENOENT',
    );
  });

  test('that is not in the definition', async () => {
    const { command: _, ...sourceOnly } = definition('');
    expect(await refusal(start(sourceOnly), 'definition-invalid')).toBe(
      `${dir}/vm1.json: "command" is missing, so guest vm1 cannot be started on this host`,
    );
  });

  test('is not run while something else serves its monitor', async () => {
    const server = createServer().listen(qmp);
    await once(server, 'listening');
    const touch = { ...definition(''), command: ['/bin/touch', path.join(dir, 'ran')] };
    expect(await refusal(start(touch), 'guest-exists')).toContain('is here already');
    expect(fs.existsSync(path.join(dir, 'ran'))).toBe(false);
    server.close();
  });
});

describe('RAM files', () => {
  const ramOf = (...blocks: string[]) => blocks.map((block) => ({ block, file: ramFile }));
  const attempt = (ram: GuestDefinition['ram'], bytes: number) =>
    start({ ...definition('/bin/false'), ram }, { ramSizes: new Map([['m0', bytes]]) });

  test('of a block that the guest does not have', async () => {
    expect(await refusal(attempt(ramOf('pc.ram'), MIB), 'definition-invalid')).toBe(
      'the definition has a file for RAM block "pc.ram", but the guest has m0',
    );
  });

  test('without room for them', async () => {
    const message = await refusal(attempt(ramOf('m0'), 2 ** 52), 'memory-insufficient');
    expect(message).toContain('needs RAM files of 4096 TiB, but /dev/shm has room for ');
    expect(fs.existsSync(ramFile)).toBe(false);
  });

  test('that cannot be made', async () => {
    const nowhere = [{ block: 'm0', file: path.join(dir, 'nowhere', 'x') }];
    expect(await refusal(attempt(nowhere, MIB), 'ram-file-failed')).toContain('ENOENT');
  });
});

describe('the process', () => {
  test('is never another one that has its pid', async () => {
    const bystander = spawn('/bin/sleep', ['1000']);
    await once(bystander, 'spawn');
    const { pid, startTime } = identify(bystander.pid!)!;
    await endQemu({ pid, startTime: startTime - 1 });
    expect(isAlive({ pid, startTime })).toBe(true);
    await endQemu({ pid, startTime });
    expect(isAlive({ pid, startTime })).toBe(false);
  });

  test('behind a socket is not guessed where two have bound the same path', async () => {
    const listen = async () => {
      const server = createServer().listen(qmp);
      await once(server, 'listening');
      return server;
    };
    expect(processBehind(qmp)).toBeUndefined();
    const first = await listen();
    expect(processBehind(qmp)).toEqual(identify(process.pid));
    expect(processBehind(qmp.slice(0, -1))).toBeUndefined();
    fs.rmSync(qmp);
    const second = await listen();
    expect(processBehind(qmp)).toBeUndefined();
    for (const server of [first, second]) server.close();
  });

  test('is known by its start, whatever it calls itself', () => {
    const { startTime } = identify(process.pid)!;
    const uptime = Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
    expect(startTime).toBeGreaterThan(0);
    expect(startTime / 100).toBeLessThanOrEqual(uptime + 1);
    const program = path.join(dir, 'a) R 1 (b');
    fs.copyFileSync('/bin/sleep', program);
    const odd = spawn(program, ['1000']);
    try {
      expect(identify(odd.pid!)!.startTime).toBeGreaterThanOrEqual(startTime);
    } finally {
      odd.kill('SIGKILL');
    }
    expect(identify(2 ** 30)).toBeUndefined();
  });
});
