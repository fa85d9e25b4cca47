import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import { Hosts, until } from './hosts.ts';

/** Longer than anything that a test does meanwhile. */
const LONG = ['--for', '10m'];
/** No move here is about its suspension. */
const GENEROUS = ['--max-suspend-time', '20s'];
const HOT_PAGES = (2 << 20) / PAGE_SIZE;
/** Beside its pages a guest writes the entries of its check table: half a page of them a vCPU at most. */
const TABLE_PAGES = 8;
const STEADY = { workload: 'uniform', workingSet: '2MiB', rate: 20_000 } as const;

let hosts: Hosts;
beforeEach(async () => {
  hosts = await Hosts.start();
});
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(hosts.source.story());
  await hosts.end();
});

test('shows the working set of a guest, keeps the newest, and leaves nothing on', async () => {
  await hosts.boot({ ...STEADY, content: 'zero=50,random=25,text=25' });
  const { code, stdout, stderr } = await hosts.run(['profile', 'vm1', '--for', '3s', '--json']);
  expect([code, stderr]).toEqual([0, '']);
  const profile: GuestProfile = JSON.parse(stdout);
  expect(profile).toMatchObject({ guest: 'vm1', method: 'dirty-log', totalPages: 16_384 });
  expect(profile.ms).toBeGreaterThanOrEqual(3000);
  const { workingSet } = profile;
  expect(workingSet.length).toBeGreaterThanOrEqual(3);
  expect(workingSet.at(-1)!.windowMs).toBe(profile.ms);
  for (const [i, { windowMs, pages, high }] of workingSet.entries()) {
    expect(pages).toBeLessThanOrEqual(high);
    expect(high).toBeLessThanOrEqual(HOT_PAGES + TABLE_PAGES);
    if (i > 0) expect(windowMs).toBeGreaterThan(workingSet[i - 1]!.windowMs);
  }
  // Thousands of writes all over 512 pages: few are left out, even where the machine is slow.
  expect(workingSet.at(-1)!.pages).toBeGreaterThan(HOT_PAGES / 2);
  expect(profile.dirtyRate).toBeGreaterThan(0);
  // The mix comes in runs of up to 1 MiB, and a written page is zero no more.
  expect(profile.zeroShare).toBeGreaterThan(0.2);
  expect(profile.zeroShare).toBeLessThan(0.8);
  expect(profile.compressedShare).toBeGreaterThan(0.2);
  expect(profile.compressedShare).toBeLessThan(1);
  await logIsOff();

  const text = await hosts.run(['profile', 'vm1', '--last']);
  expect(text.stdout).toMatch(/^guest vm1 \(64 MiB\), 3\.\d+ s by its dirty log, .*\n/);
  const kept = await hosts.run(['profile', 'vm1', '--last', '--json']);
  expect(JSON.parse(kept.stdout)).toEqual(profile);
  await hosts.send.end();
  await hosts.startSend();
  expect((await hosts.run(['profile', 'vm1', '--last', '--json'])).stdout).toBe(kept.stdout);
  expect((await hosts.migrate(...GENEROUS)).outcome).toBe('completed');
});

test('a guest whose profile is taken is not moved, and one that is moved has none taken', async () => {
  await hosts.boot({ workload: 'hot-set' });
  const taking = hosts.run(['profile', 'vm1', ...LONG]);
  await until(logIsOn, 'the guest is watched');
  expect((await hosts.run(['guests'])).stdout).toMatch(/vm1 .*its profile is being taken/);
  const busy = { code: 1, stderr: 'agent-send: guest vm1 is being profiled (guest-busy)\n' };
  expect(await hosts.run(['migrate', 'vm1', hosts.target])).toMatchObject(busy);
  expect(await hosts.run(['profile', 'vm1'])).toMatchObject(busy);
  expect(await logIsOn()).toBe(true); // the refused ones have not touched it
  await hosts.source.client('send').request('DELETE', '/guests/vm1/profile');
  expect(await taking).toMatchObject({
    code: 4,
    stdout: '',
    stderr: expect.stringContaining('the profile of guest vm1 was ended; nothing of it is kept\n'),
  });
  await logIsOff();
  expect((await hosts.run(['profile', 'vm1', '--last'])).stderr).toContain('(unknown-profile)');

  const id = await hosts.begin(...GENEROUS, '--bandwidth', '2MB/s', '--no-compression');
  await until(async () => (await hosts.view(id)).pagesSent > 100, 'pages are sent');
  const refused = await hosts.run(['profile', 'vm1']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(
    new RegExp(`guest vm1 is being migrated already: migration ${id} .*\\(guest-busy\\)`),
  );
  await hosts.run(['set', id, '--bandwidth', 'none']);
  expect((await hosts.ended(id)).outcome).toBe('completed');
  await hosts.mustRunAt('destination');
});

test('a client that goes away ends it', async () => {
  await hosts.boot();
  const request = new AbortController();
  const asking = askAndLeave(request.signal);
  await until(logIsOn, 'the guest is watched');
  request.abort();
  await asking;
  await until(async () => !(await logIsOn()), 'nobody watches the guest');
  expect((await hosts.migrate(...GENEROUS)).outcome).toBe('completed');
});

test('a daemon that is killed leaves nothing of it: no log, no claim, no record', async () => {
  await hosts.boot();
  const taking = hosts.run(['profile', 'vm1', ...LONG]);
  await until(logIsOn, 'the guest is watched');
  const records = () => fs.readdirSync(hosts.source.places.hostDir);
  expect(records().filter((name) => name.startsWith('vm1.') && name.endsWith('.json'))).toEqual([]);
  await hosts.send.end('SIGKILL');
  expect((await taking).code).toBe(6);
  await until(async () => !(await logIsOn()), 'nobody watches the guest');
  await hosts.startSend();
  expect(fs.existsSync(path.join(hosts.stateDirOf('source'), 'profiles'))).toBe(false);
  expect((await hosts.migrate(...GENEROUS)).outcome).toBe('completed');
});

test('a daemon that is stopped ends it', async () => {
  await hosts.boot();
  const taking = hosts.run(['profile', 'vm1', ...LONG]);
  await until(logIsOn, 'the guest is watched');
  expect(await hosts.send.end()).toBe(0);
  expect((await taking).stderr).toContain('(shutting-down)');
  await logIsOff();
  await hosts.startSend();
});

test('what cannot be watched is refused with the reason, and can be tried again', async () => {
  const unknown = await hosts.run(['profile', 'vm9']);
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('(unknown-guest)')]);
  await hosts.boot();
  const rehearsed = await hosts.run(['profile', 'vm1', '--rehearse']);
  expect([rehearsed.code, rehearsed.stdout]).toEqual([1, '']);
  expect(rehearsed.stderr).toMatch(
    /a move of guest vm1 cannot be rehearsed: no hypervisor moves it/,
  );
  const guest = await ControlClient.connect(hosts.source.socketOf('vm1'), 'vm1');
  await guest.execute('stop');
  const paused = await hosts.run(['profile', 'vm1']);
  expect(paused.stderr).toContain('guest vm1 is paused; only a guest that runs has a profile');
  await guest.execute('cont');
  const stopped = hosts.run(['profile', 'vm1', ...LONG]);
  await until(logIsOn, 'the guest is watched');
  await guest.execute('stop');
  expect((await stopped).stderr).toContain('(guest-stopped)');
  await guest.execute('cont');
  guest.close();
  expect((await hosts.run(['profile', 'vm1', '--for', '1s'])).code).toBe(0);
});

test('a guest that dies in the middle ends it', async () => {
  await hosts.boot();
  const taking = hosts.run(['profile', 'vm1', ...LONG]);
  await until(logIsOn, 'the guest is watched');
  process.kill(await hosts.source.vmm(), 'SIGKILL');
  const { code, stderr } = await taking;
  expect([code, stderr]).toEqual([1, expect.stringContaining('(guest-died)')]);
  await hosts.boot();
  expect((await hosts.run(['profile', 'vm1', '--for', '1s'])).code).toBe(0);
});

/** Asks of the guest itself, whatever the agent says. */
async function logIsOn(): Promise<boolean> {
  return (await hosts.source.ask('vm1', 'dirty-log-sync')) !== undefined;
}

async function logIsOff(): Promise<void> {
  expect(await logIsOn()).toBe(false);
}

/** As a client does that is killed. */
async function askAndLeave(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const asked = http.request({
    socketPath: hosts.socketOf('source'),
    method: 'POST',
    path: '/guests/vm1/profile',
    signal,
  });
  asked.on('error', () => resolve());
  asked.end(JSON.stringify({ ms: 600_000 }));
  return promise;
}
