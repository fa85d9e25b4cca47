import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DestinationGuest, ReadableGuest } from '../../../lib/guest/guest.ts';
import { startSimulatedDestination } from '../../../lib/guest/simulated/destination.ts';
import { connectSimulatedSource } from '../../../lib/guest/simulated/source.ts';
import { GuestLayout } from '../../../lib/memory/guest-layout.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';
import { bytesOf, saved, spoolOf } from '../states.ts';
import { GuestDir, isAlive, TestGuest, until } from './fixture.ts';

const PAGE = 4096;
const known = async () => {};
let here: GuestDir;
let there: GuestDir;
let guests: (ReadableGuest | DestinationGuest)[];

beforeEach(() => {
  here = new GuestDir();
  there = new GuestDir();
  guests = [];
});

afterEach(() => {
  for (const guest of guests) guest.close();
  here.dispose();
  there.dispose();
});

async function source(name = 'vm'): Promise<ReadableGuest> {
  const guest = await connectSimulatedSource(here.dir, name);
  guests.push(guest);
  return guest;
}

/** An empty copy, and a second connection to it as an operator would have. */
async function destination(from: ReadableGuest): Promise<[DestinationGuest, TestGuest]> {
  const { description } = from;
  const guest = await startSimulatedDestination({ dir: there.dir, description, known });
  guests.push(guest);
  const socket = join(there.dir, `${description.name}.sock`);
  const client = await there.connect(socket, description.name);
  const { pid } = await client.execute<{ pid: number }>('query-guest');
  there.track(pid);
  return [guest, new TestGuest({ pid, socket }, client)];
}

/** Copies the pages of a set, page by page, so that a writer may come in between. */
function copyPages(set: PageSet, from: ReadableGuest, to: DestinationGuest): void {
  const [input, output] = [openSync(from.memory[0]!.path, 'r'), openSync(to.memory[0]!.path, 'r+')];
  const page = Buffer.alloc(PAGE);
  for (const { firstPfn, pages } of set.runs())
    for (let pfn = firstPfn; pfn < firstPfn + pages; pfn++) {
      readSync(input, page, 0, PAGE, pfn * PAGE);
      writeSync(output, page, 0, PAGE, pfn * PAGE);
    }
  closeSync(input);
  closeSync(output);
}

/** A live move by hand: the precopy loop without any of the agents. */
async function copyWhileRunning(from: ReadableGuest, to: DestinationGuest, rounds: number) {
  const { pfnEnd } = new GuestLayout(from.description.regions);
  const set = new PageSet(pfnEnd);
  set.addAll(new GuestLayout(from.description.regions));
  await from.startDirtyLog();
  for (let round = 0; round < rounds; round++) {
    copyPages(set, from, to);
    set.clear();
    await from.syncDirtyLog(set);
  }
  await from.suspend();
  await from.syncDirtyLog(set);
  copyPages(set, from, to);
}

test.each([1, 2, 3])('the dirty log loses no write (seed %i)', async (seed) => {
  await here.boot('vm', { seed, workload: 'uniform', rate: 'full' });
  const from = await source();
  const [to] = await destination(from);
  await copyWhileRunning(from, to, 24);
  expect(readFileSync(to.memory[0]!.path).equals(readFileSync(from.memory[0]!.path))).toBe(true);
});

test('a guest that moved finds every page, goes on, and knows the gap', async () => {
  const began = performance.now();
  const original = await here.boot('vm', { workload: 'hot-set', workingSet: '2MiB' });
  await original.writes(100);
  const from = await source();
  const [to, copy] = await destination(from);
  expect(await copy.client.execute('query-status')).toEqual({
    status: 'inmigrate',
    running: false,
  });
  await copyWhileRunning(from, to, 3);
  await to.loadDeviceState(await saved(from));
  expect(await original.client.execute('query-status')).toMatchObject({ status: 'postmigrate' });
  const { written } = await original.info();
  await to.resume();
  const elapsed = performance.now() - began;

  const suspension = await to.suspension();
  expect(suspension?.clock).toBe('monotonic');
  expect(suspension?.ms).toBeGreaterThan(0);
  expect(suspension?.ms).toBeLessThan(elapsed);
  await copy.writes(100);
  expect(await copy.selfCheck()).toMatchObject({ bad: 0, tableConsistent: true, clean: true });
  expect((await copy.info()).written).toBeGreaterThanOrEqual(written + 100);
  await from.destroy();
  expect(readdirSync(here.dir)).toEqual([]);
  expect((await copy.info()).status).toBe('running');
});

test('a lost page is found by the guest that arrives', async () => {
  const original = await here.boot('vm', { workload: 'sweep', rate: 'full', workingSet: '2MiB' });
  const from = await source();
  const [to, copy] = await destination(from);
  await from.startDirtyLog();
  copyFileSync(from.memory[0]!.path, to.memory[0]!.path);
  await original.writes(500);
  await from.suspend();
  const set = new PageSet(new GuestLayout(from.description.regions).pfnEnd);
  await from.syncDirtyLog(set);
  const [lost] = [...set.runs()];
  set.delete(lost!.firstPfn);
  copyPages(set, from, to);
  await to.loadDeviceState(await saved(from));
  expect(await copy.selfCheck()).toMatchObject({ badPfns: [lost!.firstPfn], clean: false });
});

test('a source that is rolled back runs on and has lost nothing', async () => {
  const original = await here.boot('vm', { workload: 'uniform', rate: 'full' });
  const from = await source();
  const [to, copy] = await destination(from);
  await copyWhileRunning(from, to, 1);
  await to.loadDeviceState(await saved(from));
  await to.destroy();
  await until(() => !isAlive(copy.vmm.pid)); // its parent has to take note
  expect(existsSync(to.memory[0]!.path)).toBe(false);
  expect(readdirSync(there.dir)).toEqual([]);

  await from.stopDirtyLog();
  await from.stopDirtyLog();
  expect(await from.suspension()).toBeUndefined();
  await from.resume();
  await from.resume();
  expect((await from.suspension())?.clock).toBe('monotonic');
  await original.writes(100);
  expect((await original.selfCheck()).clean).toBe(true);
  const beats = await original.client.execute<{ suspensions: unknown[] }>('query-heartbeat');
  expect(beats.suspensions).toHaveLength(1);

  const [again] = await destination(from); // and the next attempt works
  await copyWhileRunning(from, again, 1);
  await again.loadDeviceState(await saved(from));
  await again.resume();
  expect((await again.suspension())?.ms).toBeGreaterThan(0);
});

describe('a destination', () => {
  test('does not run without its device state', async () => {
    await here.boot('vm');
    const [to, copy] = await destination(await source());
    await expect(to.resume()).rejects.toMatchObject({ code: 'not-started' });
    await expect(copy.selfCheck()).rejects.toMatchObject({ code: 'hypervisor-failed' });
    expect(await to.suspension()).toBeUndefined();
  });

  test('refuses a damaged device state and one of another machine, then takes the right one', async () => {
    await here.boot('vm');
    await here.boot('big', { vcpus: 3 });
    const from = await source();
    const other = await source('big');
    const [to] = await destination(from);
    await from.suspend();
    await other.suspend();
    const state = bytesOf(await saved(from));
    expect(state.length).toBe(64 * 1024);
    const damaged = Uint8Array.from(state);
    damaged[5000]! ^= 1;
    for (const bad of [damaged, bytesOf(await saved(other)), state.subarray(0, 100)])
      await expect(to.loadDeviceState(spoolOf(bad))).rejects.toMatchObject({
        code: 'device-state-invalid',
      });
    await to.loadDeviceState(spoolOf(state));
  });

  test('has the size of the guest and takes no memory before it is written', async () => {
    await here.boot('vm');
    const from = await source();
    const [to] = await destination(from);
    expect(readFileSync(to.memory[0]!.path).equals(Buffer.alloc(16 * 2 ** 20))).toBe(true);
    expect(to.memory[0]!.region).toEqual(from.description.regions[0]);
  });

  test('says in the words of its VMM why it cannot be', async () => {
    await here.boot('vm');
    const { description } = await source();
    const options = { dir: here.dir, description, known };
    await expect(startSimulatedDestination(options)).rejects.toMatchObject({
      ...{ code: 'guest-exists', message: `a guest named vm exists already in ${here.dir}` },
    });
    const ramDir = '/nowhere';
    await expect(
      startSimulatedDestination({ ...options, dir: there.dir, ramDir }),
    ).rejects.toMatchObject({ code: 'ram-file-failed' });
    const regions = [{ name: 'ram', firstPfn: 0, pages: 2 ** 31 }];
    const huge = { ...options, dir: there.dir, description: { ...description, regions } };
    await expect(startSimulatedDestination(huge)).rejects.toMatchObject({
      ...{ code: 'memory-insufficient', message: expect.stringContaining('guest vm needs 8 TiB') },
    });
    expect(readdirSync(there.dir)).toEqual([]);
  });

  test('whose VMM is killed says so, and can still be discarded', async () => {
    await here.boot('vm');
    const [to, copy] = await destination(await source());
    const death = new Promise<Error>((resolve) => to.onDeath(resolve));
    process.kill(copy.vmm.pid, 'SIGKILL');
    expect(await death).toMatchObject({ code: 'guest-died' });
    await until(() => !isAlive(copy.vmm.pid));
    await to.destroy();
    expect(existsSync(to.memory[0]!.path)).toBe(false);
    expect(existsSync(copy.vmm.socket)).toBe(false);
  });

  test('that is discarded has not died', async () => {
    await here.boot('vm');
    const [to] = await destination(await source());
    let deaths = 0;
    to.onDeath(() => deaths++);
    await to.destroy();
    expect(deaths).toBe(0);
  });
});

test('an unknown guest is refused by naming those there are', async () => {
  await here.boot('one');
  await here.boot('two');
  await expect(source('three')).rejects.toMatchObject({
    ...{ code: 'unknown-guest', message: 'no simulated guest "three"; there are one, two' },
  });
  await expect(connectSimulatedSource('/nowhere', 'x')).rejects.toMatchObject({
    message: 'no simulated guest "x"; there is none in /nowhere',
  });
});
