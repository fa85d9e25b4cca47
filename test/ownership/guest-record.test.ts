import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GuestRecords } from '../../lib/ownership/guest-record.ts';
import { RecordFiles } from '../../lib/ownership/record-files.ts';

let dir: string;
let store: RecordFiles;
/** What is open in the journal of each agent. */
let open: Set<string>;
const mounted: string[] = [];
beforeEach(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-records-'));
  store = await RecordFiles.open(dir);
  open = new Set();
});
afterEach(() => {
  for (const disk of mounted.splice(0)) execFileSync('umount', ['--lazy', disk]);
  fs.rmSync(dir, { recursive: true });
});

function agent(side: 'source' | 'destination', kept = store): GuestRecords {
  const holder = { side, journal: `journal of the ${side}`, stateDir: `/state/${side}` };
  return new GuestRecords(kept, holder, (migration) => open.has(migration));
}

const busy = (text: RegExp) => ({
  code: 'guest-busy',
  message: expect.stringMatching(text),
});

describe('a migration of a guest', () => {
  test('is one at a time, and the one that is refused hears which has it', async () => {
    const tenure = await agent('source').claim('vm1', 'm1');
    open.add('m1');
    expect(tenure).toMatchObject({ epoch: 1, owns: true });
    await expect(agent('destination').claim('vm1', 'm2')).rejects.toMatchObject(
      busy(/migration m1 of agent-send \(\/state\/source\)/),
    );
    tenure.leave(); // the agent has stopped: the record stays
    await expect(agent('destination').claim('vm1', 'm2')).rejects.toMatchObject(busy(/m1/));
    expect(await agent('destination').claim('vm2', 'm3')).toMatchObject({ epoch: 1 });
  });

  test('begins in a later epoch than all before it, or in the one that the other side has chosen', async () => {
    const first = await agent('source').claim('vm1', 'm1');
    await first.raise(4);
    await first.rest();
    const second = await agent('destination').claim('vm1', 'm2', 2);
    expect(second.epoch).toBe(5);
    await second.rest();
    expect((await agent('source').claim('vm1', 'm3', 9)).epoch).toBe(9);
  });

  test('owns the guest until a newer one begins, and does nothing to it from then on', async () => {
    const old = await agent('destination').claim('vm1', 'm1');
    await old.rest();
    expect([old.owns, await old.hold()]).toEqual([true, true]);
    old.leave();
    const newer = await agent('source').claim('vm1', 'm2');
    expect([old.owns, await old.hold()]).toEqual([false, false]);
    await old.raise(99);
    await old.rest();
    expect(store.read('vm1')).toMatchObject({ migration: 'm2', epoch: 2, rest: false });
    expect(newer.owns).toBe(true);
  });

  test('cannot act while another one is beginning', async () => {
    const old = await agent('destination').claim('vm1', 'm1');
    await old.rest();
    const claim = await store.take('vm1'); // as a newer one does before it has written
    await expect(old.hold()).rejects.toMatchObject(busy(/vm1/));
    claim!.release();
    expect(await old.hold()).toBe(true);
  });

  test('that an earlier run had begun is taken up again with the later of the epochs', async () => {
    const tenure = await agent('source').claim('vm1', 'm1');
    open.add('m1');
    await tenure.raise(3);
    tenure.leave();
    const again = agent('source').recovered('vm1', 'm1', 1);
    expect(await again.hold()).toBe(true);
    expect(again.epoch).toBe(3);
    await again.rest();
    expect(store.read('vm1')).toMatchObject({ epoch: 3, rest: true });
  });
});

describe('a guest that has been here under another name', () => {
  const UUID = '6f6f6f6f-1111-4222-8333-444444444444';

  test('is one guest: its epoch grows, and what was begun under its old name does nothing more', async () => {
    const old = await agent('source').claim('web1', 'm1', 7, UUID);
    open.add('m1');
    const two = agent('destination').claim('web2', 'm2', 1, UUID);
    await expect(two).rejects.toMatchObject(busy(/m1/));
    await old.rest();
    const again = agent('source').recovered('web1', 'm1', 7);
    expect([again.owns, await again.hold()]).toEqual([true, true]);
    // Somebody is about to act by the old record.
    await expect(agent('destination').claim('web2', 'm2', 1, UUID)).rejects.toMatchObject(
      busy(/web1/),
    );
    await again.rest(); // written by who knows it from a journal
    expect(store.read('web1')).toMatchObject({ uuid: UUID });
    const newer = await agent('destination').claim('web2', 'm2', 1, UUID);
    expect(newer.epoch).toBe(8);
    expect([again.owns, await again.hold()]).toEqual([false, false]);
    await again.raise(99);
    expect(store.read('web1')).toMatchObject({ epoch: 7, migration: 'm1' });
    // Another guest may have the name that has become free.
    expect(await agent('source').claim('web3', 'm3', 1, UUID.replace('6', '7'))).toMatchObject({
      epoch: 1,
    });
    await newer.rest();
    expect((await agent('source').claim('web1', 'm4', 1, UUID)).epoch).toBe(9);
  });

  test('of two migrations that begin at once under two names at most one does', async () => {
    const begun = await Promise.allSettled([
      agent('source').claim('web1', 'm1', 1, UUID),
      agent('destination').claim('web2', 'm2', 1, UUID),
    ]);
    const won = begun.filter(({ status }) => status === 'fulfilled');
    expect(won.length).toBeLessThanOrEqual(1);
    for (const one of begun)
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'guest-busy' });
  });
});

describe('what was claimed and never written into a journal', () => {
  test('is let go of by its own agent only, and not while it is being written', async () => {
    const tenure = await agent('source').claim('vm1', 'm1');
    await agent('source').sweep(); // the claim is held: its first record may be on the way
    expect(store.read('vm1')).toMatchObject({ rest: false });
    tenure.leave(); // killed
    await agent('destination').sweep();
    expect(store.read('vm1')).toMatchObject({ rest: false });
    await agent('source').sweep();
    expect(store.read('vm1')).toMatchObject({ rest: true });
    expect((await agent('destination').claim('vm1', 'm2')).epoch).toBe(2);
  });

  test('does not keep its own agent from the next migration', async () => {
    (await agent('source').claim('vm1', 'm1')).leave();
    expect((await agent('source').claim('vm1', 'm2')).epoch).toBe(2);
  });
});

describe('a guest that is lent', () => {
  test('is neither migrated nor lent again until it is given back, and no record knows of it', async () => {
    const records = agent('source');
    const giveBack = await records.lend('vm1', 'profiled');
    const profiled = busy(/^guest vm1 is being profiled$/);
    await expect(records.claim('vm1', 'm1')).rejects.toMatchObject(profiled);
    await expect(records.lend('vm1', 'profiled')).rejects.toMatchObject(profiled);
    // The other agent cannot know what it is.
    const elsewhere = busy(/migrated or profiled already/);
    await expect(agent('destination').claim('vm1', 'm1')).rejects.toMatchObject(elsewhere);
    expect(store.guests()).toEqual([]);
    giveBack();
    expect((await records.claim('vm1', 'm1')).epoch).toBe(1);
  });

  test('is none that a migration has, running or left open', async () => {
    const tenure = await agent('source').claim('vm1', 'm1');
    open.add('m1');
    await expect(agent('source').lend('vm1', 'profiled')).rejects.toMatchObject(busy(/m1/));
    tenure.leave();
    await expect(agent('source').lend('vm1', 'profiled')).rejects.toMatchObject(busy(/m1/));
    await expect(agent('destination').lend('vm1', 'profiled')).rejects.toMatchObject(busy(/m1/));
    const again = agent('source').recovered('vm1', 'm1', 1);
    await again.rest();
    (await agent('source').lend('vm1', 'profiled'))();
    expect(store.read('vm1')).toMatchObject({ epoch: 1, rest: true });
  });
});

test('a damaged record lets nobody act, and is named', async () => {
  const tenure = await agent('source').claim('vm1', 'm1');
  open.add('m1');
  tenure.leave();
  const good = fs.readFileSync(path.join(dir, 'vm1.json'));
  fs.writeFileSync(path.join(dir, 'vm1.json'), good.subarray(0, 20));
  const damaged = { code: 'journal-invalid', message: expect.stringContaining('vm1.json') };
  const again = agent('source').recovered('vm1', 'm1', 1);
  await expect(again.hold()).rejects.toMatchObject(damaged);
  await expect(agent('destination').claim('vm1', 'm2')).rejects.toMatchObject(damaged);
  await agent('source').sweep(); // leaves it as it is
  fs.writeFileSync(path.join(dir, 'vm1.json'), good);
  expect(await again.hold()).toBe(true);
});

const PROGRAM = `
  const { GuestRecords } = await import(${JSON.stringify(new URL('../../lib/ownership/guest-record.ts', import.meta.url))});
  const { RecordFiles } = await import(${JSON.stringify(new URL('../../lib/ownership/record-files.ts', import.meta.url))});
  const store = await RecordFiles.open(process.argv[1]);
  const holder = { side: 'destination', journal: 'another', stateDir: '/state/another' };
  const records = new GuestRecords(store, holder, () => true);
  const claimed = await records.claim('vm1', 'elsewhere').then(() => 'claimed', ({ code }) => code);
  console.log(store.id, claimed);
  process.stdin.resume().on('end', () => process.exit());
`;

test('counts between processes, which see the same records; a killed one holds no claim', async () => {
  const args = ['--input-type=module', '-e', PROGRAM, dir];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const [said] = await once(child.stdout, 'data');
  expect(String(said).trim()).toBe(`${store.id} claimed`);
  expect(await store.take('vm1')).toBeUndefined();
  await expect(agent('source').claim('vm1', 'm1')).rejects.toMatchObject(busy(/elsewhere/));
  child.kill('SIGKILL');
  await ended;
  (await store.take('vm1'))!.release();
  // Its record stays: what it has begun is in its journal.
  await expect(agent('source').claim('vm1', 'm1')).rejects.toMatchObject(busy(/elsewhere/));
});

/** Only root has disks of its own. */
test.skipIf(process.getuid?.() !== 0)('on a full disk keeps the old record', async () => {
  const disk = path.join(dir, 'disk');
  fs.mkdirSync(disk, { mode: 0o700 });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', disk]);
  mounted.push(disk);
  const kept = await RecordFiles.open(disk);
  const tenure = await agent('source', kept).claim('vm1', 'm1');
  const fill = path.join(disk, 'fill');
  expect(() => fs.writeFileSync(fill, Buffer.alloc(1024 * 1024))).toThrow(/ENOSPC/);
  const failed = { code: 'journal-failed', message: expect.stringContaining('vm1.json') };
  await expect(tenure.raise(7)).rejects.toMatchObject(failed);
  expect(kept.read('vm1')).toMatchObject({ epoch: 1 });
  expect(tenure.epoch).toBe(1);
  fs.rmSync(fill);
  await tenure.raise(7);
  expect(kept.read('vm1')).toMatchObject({ epoch: 7 });
});
