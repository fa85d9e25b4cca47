import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { bootSimulatedGuest } from '../../../lib/guest/simulated/boot.ts';
import { connectSimulatedSource } from '../../../lib/guest/simulated/source.ts';
import { WORKLOADS } from '../../../lib/guest/simulated/workload.ts';
import { projectVersion } from '../../../lib/version.ts';
import { cutOff, noNamespaces } from '../../e2e/namespaces.ts';
import { GuestDir, isAlive, type TestGuest, until } from './fixture.ts';

const VMM = fileURLToPath(new URL('../../../lib/guest/simulated/vmm.ts', import.meta.url));

let guests: GuestDir;
beforeEach(() => {
  guests = new GuestDir();
});
afterEach(() => guests.dispose());

describe('running', () => {
  test.each(WORKLOADS)('%s dirties what it writes, until it is suspended', async (workload) => {
    const guest = await guests.boot('vm', { workload, workingSet: '256KiB', rate: 2000 });
    await guest.client.execute('dirty-log-start');
    const before = (await guest.info()).written;
    await guest.writes(100);
    await guest.client.execute('stop');
    const writes = (await guest.info()).written - before;
    const dirty = (await guest.sync()).count();
    expect(dirty).toBeGreaterThan(2); // at the very least a data page and its table page
    expect(dirty).toBeLessThanOrEqual(2 * writes);
    expect((await guest.sync()).count()).toBe(0);
    // 64 pages of working set and the table pages of two slices
    if (!['hot-set', 'phased'].includes(workload)) expect(dirty).toBeLessThanOrEqual(64 + 4);
    expect((await guest.selfCheck()).clean).toBe(true);
  });

  test('suspends and resumes, and knows for how long', async () => {
    const started = performance.now();
    const { client } = await guests.boot('vm', { workload: 'hot-set' });
    await client.execute('stop');
    const held = performance.now();
    expect(await client.execute('query-status')).toEqual({
      ...{ status: 'paused', running: false, by: 'operator' },
    });
    await client.execute('stop');
    const released = performance.now();
    await client.execute('cont');
    const after = performance.now();
    expect(await client.execute('query-status')).toEqual({ status: 'running', running: true });
    const beats = await client.execute<{
      suspensions: unknown[];
      lastSuspension: { ms: number; clock: string };
      worstGapWhileRunningMs: number;
    }>('query-heartbeat');
    expect(beats.suspensions).toHaveLength(1);
    expect(beats.lastSuspension.clock).toBe('monotonic');
    expect(beats.lastSuspension.ms).toBeGreaterThanOrEqual(released - held);
    expect(beats.lastSuspension.ms).toBeLessThan(after - started);
  });

  test('a new workload takes over at once', async () => {
    const guest = await guests.boot('vm', { workload: 'idle', rate: 0 });
    expect((await guest.info()).written).toBe(0);
    await guest.client.execute('set-workload', { workload: 'sweep', rate: 'full' });
    await guest.writes(1000);
    const refused = guest.client.execute('set-workload', { workload: 'sweep', rate: -1 });
    await expect(refused).rejects.toMatchObject({ code: 'bad-option' });
  });

  test('keeps the dirty log on for whoever wanted it last, and for nobody who is gone', async () => {
    const guest = await guests.boot('vm', { workload: 'idle' });
    const on = () =>
      guest.client.execute('dirty-log-sync').then(
        () => true,
        () => false,
      );
    const first = await guests.connect(guest.vmm.socket, 'vm');
    const second = await guests.connect(guest.vmm.socket, 'vm');
    await first.execute('dirty-log-start');
    await second.execute('dirty-log-start');
    await first.execute('dirty-log-stop');
    expect(await on()).toBe(true);
    first.close();
    await guest.client.execute('query-status');
    expect(await on()).toBe(true);
    second.close();
    await until(async () => !(await on()));
  });

  test('several clients at once see the same guest and its events', async () => {
    const guest = await guests.boot('vm');
    const watcher = connect(guest.vmm.socket);
    const seen = text(watcher);
    await new Promise((resolve) => watcher.once('data', resolve));
    await guest.client.execute('stop');
    await guest.client.execute('cont');
    await guest.client.execute('quit');
    const messages = (await seen)
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(messages[0]).toEqual({ VMM: { version: projectVersion(), capabilities: [] } });
    expect(messages.slice(1).map(({ event }) => event)).toEqual(['STOP', 'RESUME', 'SHUTDOWN']);
  });
});

describe('leaving nothing behind', () => {
  test.each(['quit', 'SIGTERM'])('on %s', async (how) => {
    const guest = await guests.boot('vm', { log: join(guests.dir, 'vm.log') });
    const { memory, pid } = await guest.info();
    expect(existsSync(memory[0]!.path)).toBe(true);
    if (how === 'quit') await guest.client.execute('quit');
    else process.kill(pid, 'SIGTERM');
    await until(() => !isAlive(pid));
    expect(existsSync(memory[0]!.path)).toBe(false);
    expect(readdirSync(guests.dir)).toEqual(['vm.log']);
    expect(readFileSync(join(guests.dir, 'vm.log'), 'utf8')).toMatch(/ready, running.*\n.*t/s);
  });

  test('a killed VMM is replaced, socket and memory', async () => {
    const first = await guests.boot('vm');
    const { memory, pid } = await first.info();
    process.kill(pid, 'SIGKILL');
    await until(() => !isAlive(pid));
    expect(existsSync(memory[0]!.path)).toBe(true);
    await expect(connectSimulatedSource(guests.dir, 'vm')).rejects.toMatchObject({
      code: 'unknown-guest',
    });
    const second = await guests.boot('vm');
    expect(existsSync(memory[0]!.path)).toBe(false);
    expect((await second.selfCheck()).clean).toBe(true);
  });
});

describe('refusing to start', () => {
  test('a second guest of the same name', async () => {
    const guest = await guests.boot('vm');
    await expect(guests.boot('vm')).rejects.toMatchObject({ code: 'guest-exists' });
    expect((await guest.info()).status).toBe('running');
  });

  test('of two at the same time one', async () => {
    const outcomes = await Promise.allSettled([guests.boot('vm'), guests.boot('vm')]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'guest-exists' },
    });
  });

  test.skipIf(noNamespaces())('of two in different network namespaces one', async () => {
    const namespace = cutOff();
    const [program, ...args] = [
      ...[...namespace.within, process.execPath, VMM],
      ...['--name', 'vm', '--dir', guests.dir, '--memory', '16MiB'],
    ];
    try {
      const guest = await guests.boot('vm');
      const ran = spawnSync(program!, args, { encoding: 'utf8' });
      expect(ran).toMatchObject({ status: 1, stderr: expect.stringMatching(/^guest-exists: /) });
      expect((await guest.info()).status).toBe('running');
    } finally {
      namespace.close();
    }
  });

  test('with more memory than there is', async () => {
    await expect(guests.boot('vm', { memory: '8TiB' })).rejects.toMatchObject({
      code: 'memory-insufficient',
      message: expect.stringMatching(
        /^guest vm needs 8 TiB of memory, but \/dev\/shm has room for /,
      ),
    });
    expect(readdirSync(guests.dir)).toEqual([]);
  });

  test('without a place for the RAM file', async () => {
    const attempt = guests.boot('vm', { ramDir: '/nowhere' });
    await expect(attempt).rejects.toMatchObject({ code: 'ram-file-failed' });
    await expect(guests.boot('vm', { ramDir: '/proc' })).rejects.toMatchObject({
      code: expect.stringMatching(/ram-file-failed|memory-insufficient/),
    });
  });

  test('in a directory that cannot be one', async () => {
    const dir = join(guests.dir, 'file');
    writeFileSync(dir, '');
    await expect(bootSimulatedGuest({ name: 'vm', dir })).rejects.toMatchObject({
      code: 'listen-failed',
    });
    const deep = join(guests.dir, 'd'.repeat(100)); // too long for a socket's address
    await expect(bootSimulatedGuest({ name: 'vm', dir: deep })).rejects.toMatchObject({
      code: 'listen-failed',
    });
  });

  test.each([
    [{ memory: '512' }, /--memory.*bare number/],
    [{ memory: '1MiB' }, /--memory.*3 MiB to 8 TiB/],
    [{ memory: '5000KiB' }, /multiple of 1 MiB/],
    [{ vcpus: 0 }, /--vcpus.*1 to 16/],
    [{ workload: 'lazy' }, /no workload "lazy"/],
    [{ rate: -3 }, /--rate/],
    [{ content: 'zero=3' }, /--content.*add up to 3/],
  ])('with %j', async (options, words) => {
    const attempt = guests.boot('vm', options);
    await expect(attempt).rejects.toMatchObject({
      ...{ code: 'bad-option', message: expect.stringMatching(words) },
    });
  });

  test('with a name that would leave the directory', async () => {
    await expect(guests.boot('../vm')).rejects.toMatchObject({ code: 'bad-option' });
  });
});

describe('garbage on the control socket', () => {
  const own = new GuestDir();
  let guest: TestGuest;
  beforeAll(async () => {
    guest = await own.boot('vm');
  });
  afterAll(() => own.dispose());

  test.each([
    ['}{', 'bad-message'],
    ['[1,2]', 'bad-message'],
    ['null', 'bad-message'],
    ['{"execute":7,"id":1}', 'bad-message'],
    ['{"execute":"stop","arguments":[]}', 'bad-message'],
    ['{"execute":"constructor","id":1}', 'CommandNotFound'],
    ['{"execute":"load-device-state","arguments":{"file":5}}', 'bad-option'],
    ['{"execute":"load-device-state","arguments":{"file":"/none","to":1}}', 'bad-option'],
    ['{"execute":"load-device-state","arguments":{"file":"/dev/null"}}', 'bad-option'],
    ['{"execute":"load-device-state","arguments":{"file":"/dev/null","to":1}}', 'bad-option'],
    [
      '{"execute":"load-device-state","arguments":{"file":"/dev/null","to":0}}',
      'hypervisor-failed',
    ],
    ['{"execute":"dirty-log-sync"}', 'hypervisor-failed'],
  ])('%s is answered with %s', async (line, kind) => {
    const socket = connect(guest.vmm.socket);
    const said = text(socket);
    socket.write(`${line}\n{"execute":"query-status","id":"after"}\n`);
    socket.end();
    const [, refusal, answer] = (await said)
      .trim()
      .split('\n')
      .map((each) => JSON.parse(each));
    expect(refusal.error.class).toBe(kind);
    expect(answer).toEqual({ return: { status: 'running', running: true }, id: 'after' });
  });

  test('a line without end is cut off and the guest runs on', async () => {
    const socket = connect(guest.vmm.socket);
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const piece = Buffer.alloc(1 << 20, 'x');
    const pour = () => {
      while (socket.writable && socket.write(piece));
    };
    socket.on('drain', pour).resume();
    pour();
    await closed;
    expect((await guest.info()).status).toBe('running');
  });
});
