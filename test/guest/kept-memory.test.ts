import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { GuestDescription } from '../../lib/guest/guest.ts';
import { KeptMemory } from '../../lib/guest/kept-memory.ts';
import { removeOrphans } from '../../lib/guest/orphans.ts';
import { PAGE_SIZE, type RegionFile } from '../../lib/memory/guest-layout.ts';

const HOUR = 3_600_000;
const PAGES = 16;
const SIZE = PAGES * PAGE_SIZE;
/** Whom guests have gone to. */
const HEIR = 'hostb';

let hostDir: string;
let ramDir: string;
/** What the host has to spare beyond what it is to have left. */
let spare: number;
let kept: KeptMemory;
beforeEach(() => {
  hostDir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-kept-'));
  ramDir = fs.mkdtempSync('/dev/shm/godwit-kept-');
  spare = 2 ** 30;
  kept = newKept();
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
});
afterEach(() => {
  kept.stop();
  vi.restoreAllMocks();
  vi.useRealTimers();
  fs.rmSync(hostDir, { recursive: true });
  fs.rmSync(ramDir, { recursive: true });
});

/** As the other agent of the host has it, or this one after a restart. */
function newKept(): KeptMemory {
  return new KeptMemory({ hostDir, ramDir }, () => os.totalmem() / 16 + spare);
}

function guest(name = 'vm1', over: Partial<GuestDescription> = {}): GuestDescription {
  const regions = [
    { name: 'ram0', firstPfn: 0, pages: PAGES },
    { name: 'ram1', firstPfn: 256, pages: PAGES },
    { name: 'rom', firstPfn: 512, pages: 1 },
  ];
  return { name, hypervisor: 'simulated', deviceModel: 'any', regions, ...over };
}

/** Files as a process that has ended leaves them: of all regions but the ROM. */
function memoryOf({ name, regions }: GuestDescription, bytes = SIZE): RegionFile[] {
  return regions.slice(0, 2).map((region) => {
    const file = path.join(ramDir, `${name}-${region.name}`);
    fs.writeFileSync(file, Buffer.alloc(bytes, `${name} ${region.name} `));
    return { region, path: file, offset: 0 };
  });
}

function keep(name = 'vm1', forMs = HOUR): void {
  kept.keep(guest(name), memoryOf(guest(name)), { heir: HEIR, forMs });
}

const files = () => fs.readdirSync(ramDir).sort();
const records = () => fs.readdirSync(path.join(hostDir, 'kept'));

test('a guest that comes back finds its memory, once', () => {
  keep();
  expect(files()).toHaveLength(2);
  expect(files().every((file) => /^godwit-vm1-.*\.kept$/.test(file))).toBe(true);
  expect(kept.bytes).toBe(2 * SIZE);
  const taken = newKept().take(guest(), HEIR)!;
  expect([...taken.files.keys()]).toEqual(['ram0', 'ram1']);
  expect(taken.bytes).toBe(2 * SIZE);
  for (const [region, file] of taken.files)
    expect(fs.readFileSync(file)).toEqual(Buffer.alloc(SIZE, `vm1 ${region} `));
  expect(records()).toEqual([]);
  // Nobody takes or removes it any more.
  expect(kept.take(guest(), HEIR)).toBeUndefined();
  spare = -1;
  kept.look();
  expect(files()).toHaveLength(2);
  taken.discard();
  expect(files()).toEqual([]);
});

test('what is taken and has become nothing is an orphan of its agent', () => {
  keep();
  kept.take(guest(), HEIR);
  expect(removeOrphans(ramDir, () => false)).toEqual([]); // this process lives
  expect(files().every((file) => /^godwit-vm1-\d+-\d+-[0-9a-f]{12}\.ram$/.test(file))).toBe(true);
});

test('one region may fit where another does not; what does not goes', () => {
  keep();
  const [ram0, ram1, rom] = guest().regions;
  const larger = { ...ram1!, pages: PAGES + 1 };
  const taken = kept.take(guest('vm1', { regions: [ram0!, larger, rom!] }), HEIR)!;
  expect([...taken.files.keys()]).toEqual(['ram0']);
  expect(files()).toHaveLength(1);
});

test.each([
  ['another kind of guest of that name', guest('vm1', { hypervisor: 'qemu' }), HEIR],
  [
    'a guest with other regions',
    guest('vm1', { regions: [{ name: 'r', firstPfn: 0, pages: 1 }] }),
    HEIR,
  ],
  ['a guest from another host', guest(), 'hostc'],
  ['a guest from nobody knows where', guest(), ''],
])('%s gets nothing, and what was kept goes', (_, other, from) => {
  keep();
  expect(kept.take(other, from)).toBeUndefined();
  expect(files()).toEqual([]);
  expect(records()).toEqual([]);
});

test('a guest of another name leaves it alone', () => {
  keep();
  expect(kept.take(guest('vm2'), HEIR)).toBeUndefined();
  expect(files()).toHaveLength(2);
});

test('a newer copy takes the place of an older one', () => {
  keep();
  const older = files();
  keep();
  expect(files()).toHaveLength(2);
  expect(files()).not.toEqual(older);
});

test('what somebody still has open could change under its hashes', async () => {
  keep();
  const [first] = files();
  const holder = spawn('sh', ['-c', `exec 3<>${path.join(ramDir, first!)}; echo open; read x`]);
  await once(holder.stdout, 'data');
  const taken = kept.take(guest(), HEIR);
  expect([...(taken?.files.keys() ?? [])]).toHaveLength(1);
  expect(files()).toHaveLength(1);
  holder.stdin.end();
  await once(holder, 'exit');
});

test.each([
  ['when its time is over', HOUR, HOUR],
  ['when the clock was set back by more than it may be kept', 24 * HOUR, -HOUR],
])('it goes %s', (_, forMs, laterMs) => {
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] });
  keep('vm1', forMs);
  kept.watch();
  vi.advanceTimersByTime(3000);
  expect(files()).toHaveLength(2);
  vi.setSystemTime(Date.now() + laterMs);
  vi.advanceTimersByTime(3000);
  expect(files()).toEqual([]);
  expect(records()).toEqual([]);
});

test('a copy whose time is over is not taken either', () => {
  keep('vm1', -1);
  expect(kept.take(guest(), HEIR)).toBeUndefined();
  expect(files()).toEqual([]);
});

test('under memory pressure those go first that would go soonest, and no more than needed', () => {
  keep('late', 3 * HOUR);
  keep('soon', HOUR);
  keep('later', 4 * HOUR);
  let looks = 0;
  kept = new KeptMemory({ hostDir, ramDir }, () => {
    // The memory that was given up is there at the next look.
    const given = 6 - files().length;
    looks++;
    return os.totalmem() / 16 - 3 * SIZE + (given / 2) * 2 * SIZE;
  });
  kept.look();
  expect(records()).toEqual(['later.json']);
  expect(looks).toBe(3);
});

test('a guest that arrives gets the room', () => {
  keep('vm1');
  keep('vm2');
  kept.makeRoom(spare);
  expect(records()).toHaveLength(2);
  kept.makeRoom(spare + 1);
  expect(files()).toEqual([]);
  const { bavail, bsize } = fs.statfsSync(ramDir);
  keep('vm1');
  spare = Number.MAX_SAFE_INTEGER;
  kept.makeRoom(bavail * bsize * 2);
  expect(files()).toEqual([]);
});

test.each([
  ['not whole', () => memoryOf(guest(), SIZE - 1), 'does not have all of it'],
  ['not there', () => memoryOf(guest()).map((m) => ({ ...m, path: `${m.path}?` })), 'ENOENT'],
  ['none', () => [], 'none of it is in a file'],
])('memory that is %s is not kept, and nothing is left', (_, memory, why) => {
  const files0 = memory();
  expect(() => kept.keep(guest(), files0, { heir: HEIR, forMs: HOUR })).toThrow(why);
  for (const { path: file } of files0) expect(fs.existsSync(file)).toBe(false);
  expect(files().filter((file) => file.endsWith('.kept'))).toEqual([]);
  expect(kept.take(guest(), HEIR)).toBeUndefined();
});

test('a disk that takes no record keeps nothing', () => {
  fs.writeFileSync(path.join(hostDir, 'kept'), 'in its place');
  expect(() => keep()).toThrow('is not kept');
  expect(files()).toEqual([]);
});

test('a record without its files goes, as after a restart of the host', () => {
  keep();
  for (const file of files()) fs.rmSync(path.join(ramDir, file));
  newKept().look();
  expect(records()).toEqual([]);
});

test('a copy that is just being taken is left to whoever takes it', () => {
  keep();
  const [first, second] = files();
  fs.renameSync(path.join(ramDir, first!), path.join(ramDir, 'taken'));
  newKept().look();
  expect(files()).toEqual([second, 'taken']);
});

test('what is no record says nothing', () => {
  keep();
  fs.writeFileSync(path.join(hostDir, 'kept', 'vm1.json'), '{');
  fs.writeFileSync(path.join(hostDir, 'kept', 'vm2.json.new'), '{}');
  kept.look();
  expect(kept.take(guest(), HEIR)).toBeUndefined();
  expect(kept.bytes).toBe(0);
});
