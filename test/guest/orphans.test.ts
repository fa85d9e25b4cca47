import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { memoryFileName, removeOrphans } from '../../lib/guest/orphans.ts';
import { removeRemains } from '../../lib/guest/simulated/socket-claim.ts';
import { GuestDir, isAlive, until } from './simulated/fixture.ts';

const ORPHANS = JSON.stringify(new URL('../../lib/guest/orphans.ts', import.meta.url));
const none = () => false;

let guests: GuestDir;
let ramDir: string;
beforeEach(() => {
  guests = new GuestDir();
  ramDir = fs.mkdtempSync('/dev/shm/godwit-orphans-');
});
afterEach(() => {
  guests.dispose();
  fs.rmSync(ramDir, { recursive: true });
});

const files = () => fs.readdirSync(ramDir).map((name) => path.join(ramDir, name));

async function kill(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await until(() => !isAlive(pid));
}

/** A staging file of a maker that has ended, as an agent that was killed leaves it. */
async function abandoned(guest: string): Promise<string> {
  const program = `
    import { writeFileSync } from 'node:fs';
    import { memoryFileName } from ${ORPHANS};
    const file = ${JSON.stringify(ramDir)} + '/' + memoryFileName(process.argv[1], 'staging');
    writeFileSync(file, 'memory');
    console.log(file);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, guest]);
  const [said] = await once(child.stdout, 'data');
  await once(child, 'exit');
  return String(said).trim();
}

test('of VMMs, those that were killed leave memory that is nobody’s', async () => {
  const killed = await guests.boot('killed-1-2', { ramDir });
  const alive = await guests.boot('alive', { ramDir });
  const [lost] = (await killed.info()).memory;
  const [kept] = (await alive.info()).memory;
  expect(removeOrphans(ramDir, none)).toEqual([]);
  await kill(killed.vmm.pid);
  expect(removeOrphans(ramDir, (guest) => guest === 'killed-1-2')).toEqual([]);
  expect(removeOrphans(ramDir, none)).toEqual([lost!.path]);
  expect(files()).toEqual([kept!.path]);
  expect((await alive.selfCheck()).clean).toBe(true);
});

test('what somebody still has open or mapped stays', async () => {
  const file = await abandoned('vm');
  const fd = fs.openSync(file, 'r');
  expect(removeOrphans(ramDir, none)).toEqual([]);
  fs.closeSync(fd);
  fs.copyFileSync('/bin/sleep', file); // a program has its own file mapped
  fs.chmodSync(file, 0o700);
  const mapper = spawn(file, ['1000']);
  await once(mapper, 'spawn');
  expect(removeOrphans(ramDir, none)).toEqual([]);
  mapper.kill('SIGKILL');
  await once(mapper, 'exit');
  expect(removeOrphans(ramDir, none)).toEqual([file]);
  expect(files()).toEqual([]);
});

test('what a live process has made, or is no file of ours, stays', () => {
  const names = [
    memoryFileName('vm', 'staging'),
    ...['godwit-vm-1.ram', 'vm.ram', 'godwit-vm-999999-1-00.ram', 'x-vm-999999-1-000000000000.ram'],
  ];
  for (const name of names) fs.writeFileSync(path.join(ramDir, name), 'memory');
  const link = path.join(ramDir, 'godwit-vm-999999-1-000000000000.ram');
  fs.symlinkSync(path.join(ramDir, 'vm.ram'), link);
  fs.mkdirSync(path.join(ramDir, 'godwit-vm-999999-1-000000000001.ram'));
  expect(removeOrphans(ramDir, none)).toEqual([]);
  expect(files()).toHaveLength(names.length + 2);
  expect(removeOrphans(path.join(ramDir, 'nowhere'), none)).toEqual([]);
});

test('a killed VMM leaves no name, socket and link either', async () => {
  const killed = await guests.boot('killed', { ramDir });
  await guests.boot('alive', { ramDir });
  await kill(killed.vmm.pid);
  const open = (guest: string) => guest === 'killed';
  expect(await removeRemains(guests.dir, open)).toEqual([]);
  expect(fs.readdirSync(guests.dir)).toHaveLength(6);
  expect(await removeRemains(guests.dir, none)).toEqual(['killed']);
  expect(fs.readdirSync(guests.dir).sort()).toEqual(['alive.lock', 'alive.ram', 'alive.sock']);
  expect(files()).toHaveLength(1);
  expect(await removeRemains(path.join(guests.dir, 'nowhere'), none)).toEqual([]);
});
