import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import { endProcess } from '../../../lib/guest/end-process.ts';
import { mapsShared } from '../../../lib/guest/file-users.ts';
import { identify, isAlive } from '../../../lib/guest/process-identity.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { type StartedQemu, startQemu } from '../../../lib/guest/qemu/process.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { halt } from '../../halt.ts';

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
  const ramSizes = new Map([['m0', 32 * MIB]]);
  const qemu = await startQemu({ definition, ramSizes, logFile, ...more });
  started.add(qemu.pid);
  return qemu;
}

/** As a copy of the guest is ended. */
async function quit({ qmp, ...qemu }: StartedQemu): Promise<void> {
  await endProcess(qemu, () => void qmp.executeLast('quit').catch(() => {}));
  qmp.close();
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
      expect(await qemu.qmp.process()).toEqual({ pid: qemu.pid, startTime: qemu.startTime });
      let deaths = 0;
      qemu.qmp.onClose(() => deaths++);
      await quit(qemu);
      expect(identify(qemu.pid)).toBeUndefined();
      expect(deaths).toBe(0);
      expect(fs.existsSync(qmp)).toBe(false); // it went in order
      expect(fs.statSync(logFile).mode & 0o777).toBe(0o600);
      await endProcess(qemu); // harmless when it is gone
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
      await quit(qemu);
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
      await quit(qemu);
      await waiting;
    });

    test('once of two at the same time, and the other one leaves it alone', async () => {
      const wanted = withRam(program, '32M');
      const tried = await Promise.allSettled([start(wanted), start(wanted)]);
      const refused = tried.find(({ status }) => status === 'rejected');
      expect(refused).toMatchObject({ reason: { code: 'guest-exists' } });
      const { value: qemu } = tried.find((outcome) => outcome.status === 'fulfilled')!;
      expect(leftOver()).toEqual([qemu.pid]);
      expect(mapsShared(qemu.pid, ramFile, fs.statSync(ramFile))).toBe(true);
      expect(await qemu.qmp.process()).toEqual({ pid: qemu.pid, startTime: qemu.startTime });
      await quit(qemu);
    });

    test('not on the RAM file of a guest whose monitor was lost', async () => {
      const wanted = withRam(program, '32M');
      const qemu = await start(wanted);
      const { ino } = fs.statSync(ramFile);
      fs.rmSync(qmp);
      expect(await refusal(start(wanted), 'guest-exists')).toBe(
        `${ramFile} is in use: a guest that is here has its memory in it`,
      );
      expect(fs.statSync(ramFile).ino).toBe(ino);
      expect(leftOver()).toEqual([qemu.pid]);
      await quit(qemu);
    });

    test('by a command that wraps it, and is ended with it', async () => {
      const real = withRam(program, '32M');
      const wrapping = '"$0" "$@"; echo QEMU has ended';
      const command = ['/bin/sh', '-c', wrapping, ...real.command!];
      const qemu = await start({ ...real, command });
      expect(leftOver()).toContain(qemu.pid);
      expect(fs.readFileSync(`/proc/${qemu.pid}/comm`, 'utf8')).toContain('qemu');
      await endProcess(qemu);
      while (leftOver().length > 0) await sleep(5);
    });

    test('again where one was killed', async () => {
      const wanted = withRam(program, '32M');
      const ramSizes = new Map([['m0', 32 * MIB]]);
      let last = 0;
      for (let round = 0; round < 10; round++) {
        const qemu = await start(wanted, { ramSizes });
        expect(qemu.pid).not.toBe(last);
        last = qemu.pid;
        await endProcess(qemu);
        expect(identify(qemu.pid)).toBeUndefined();
        expect(fs.existsSync(qmp)).toBe(true); // nobody could remove it
      }
    });

    test('and is killed when it does not quit', async () => {
      const qemu = await start(definition(program, '-machine', 'none'));
      await halt(qemu.pid);
      await quit(qemu);
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

  test('that does not open the monitor itself', async () => {
    const mark = path.join(dir, 'mark');
    const script = 'touch "$1"; exec sleep 1000';
    const command = ['/bin/sh', '-c', script, 'sh', mark];
    const attempt = refusal(start({ ...definition(''), command }));
    while (!fs.existsSync(mark)) await sleep(5);
    const heard: string[] = [];
    const other = createServer((socket) => {
      socket.write('{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}}}\n');
      socket.on('data', (line) => {
        const { execute, id } = JSON.parse(String(line));
        heard.push(execute);
        socket.write(`${JSON.stringify({ return: {}, id })}\n`);
      });
    }).listen(qmp);
    expect(await attempt).toContain(
      `process ${process.pid}, which it has not started, serves ${qmp}`,
    );
    expect(heard).toEqual(['qmp_capabilities']);
    expect(leftOver()).toEqual([]);
    other.close();
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
  test('that another one has taken the place of are not taken away', async () => {
    const script = 'rm "$1"; echo of another > "$1"; exit 1';
    const ram = [{ block: 'm0', file: ramFile }];
    const command = ['/bin/sh', '-c', script, 'sh', ramFile];
    await refusal(start({ ...definition(''), command, ram }));
    expect(fs.readFileSync(ramFile, 'utf8')).toBe('of another\n');
  });

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
    await endProcess({ pid, startTime: startTime - 1 });
    expect(isAlive({ pid, startTime })).toBe(true);
    await endProcess({ pid, startTime });
    expect(isAlive({ pid, startTime })).toBe(false);
  });
});
