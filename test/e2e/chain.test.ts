import fs from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import { until } from './daemon.ts';
import type { Host } from './host.ts';
import { LARGE, QUIET } from './ordeals.ts';
import { AT } from './places.ts';
import { type HostName, Site, type SiteOptions } from './site.ts';
import type { Watcher } from './watcher.ts';

/*
 * A guest that is moved on while an earlier migration of it is still open: whoever has heard last of
 * it owns it, whatever older journals say.
 */

const MOVE = ['--max-suspend-time', '20s'];

let site: Site;
let watcher: Watcher<HostName>;
afterEach(({ task }) => site.finish(task.result?.state === 'fail'));

async function start(
  options: SiteOptions = {},
  guest: Partial<BootOptions> = QUIET,
): Promise<void> {
  site = await Site.start(options);
  await site.A.boot(guest);
  watcher = site.watch();
}

/** A moves the guest to B and dies with Commit on its way: what became of it, only B knows. */
async function movedToB(): Promise<string> {
  await start({ faults: { 'A.send': `kill@${AT.commitSent}` } });
  const id = await site.A.begin(site.B, MOVE);
  await site.struck('A.send');
  await runsAt('B');
  return id;
}

function runsAt(name: HostName): Promise<void> {
  return until(() => watcher.running.includes(name), `the guest runs at ${name}`);
}

/** The agent has tried to reach its peer and says that it waits for it. */
function waits(host: Host, role: 'send' | 'recv', id: string): Promise<void> {
  return until(async () => {
    const view = (await host.list(role)).find((one) => one.id === id);
    return view !== undefined && view.waitsFor !== undefined;
  }, `${host.name}.${role} waits for its peer`);
}

/** The agent has heard of its peer how it ended, or that it is to wait. */
function heard(host: Host, role: 'send' | 'recv', id: string): Promise<void> {
  return until(async () => {
    const view = (await host.list(role)).find((one) => one.id === id);
    return view?.waitsFor !== undefined || view?.outcome !== undefined;
  }, `${host.name}.${role} has heard of its peer`);
}

test('an older migration that was aborted does not resume what a newer one gave away', async () => {
  await start();
  const { A, B, C } = site;
  const first = await A.begin(B, [...MOVE, '--bandwidth', '1MB/s']);
  await until(async () => (await A.view(first)).phase === 'precopy', 'it is in precopy');
  await site.kill('B.recv');
  await A.tell(first, 'cancel');
  await until(async () => (await A.view(first)).outcome === 'cancelled', 'it is cancelled');

  await A.send.end('SIGKILL');
  await A.startSend(`kill@${AT.commitSent}`);
  await A.begin(C, MOVE);
  await site.struck('A.send');
  await runsAt('C');
  await site.kill('C.recv'); // it does not tell A yet that it runs
  await A.startSend();
  await waits(A, 'send', first);
  await site.restart('B.recv', 'C.recv');
  await site.settled();
  expect(await site.exactlyOne()).toBe('C');
});

test('agent-recv does not resume a guest that its own host has moved on', async () => {
  await start({
    faults: {
      'A.send': `kill@${AT.toRelease}`,
      'B.send': `kill@${AT.commitSent}`,
    },
  });
  const { A, B, C } = site;
  const first = await A.begin(B, MOVE);
  await site.struck('A.send');
  await runsAt('B');
  await B.begin(C, MOVE);
  await site.struck('B.send');
  await runsAt('C');
  await site.restart('B.recv');
  await waits(B, 'recv', first);
  await site.restart('B.send', 'A.send');
  await site.settled();
  expect(await site.exactlyOne()).toBe('C');
});

test('a guest that goes back while nobody there knows that it had come: one of them runs', async () => {
  await movedToB();
  const { A, B } = site;
  // A still has its old copy, suspended: there may be no room for the guest before it is gone.
  const back = await B.run(['migrate', 'vm1', A.target, '--json', ...MOVE]);
  await site.restart('A.send');
  await site.settled();
  expect(await site.exactlyOne()).toBe(back.code === 0 ? 'A' : 'B');
});

test('a guest that has come back is not given up for its older move', async () => {
  // A's copy is gone and B was not told; then the guest moves back to A, and A's agent comes back.
  await start({ faults: { 'A.send': `kill@${AT.toTellReleased}` } });
  const { A, B } = site;
  await A.begin(B, MOVE);
  await site.struck('A.send');
  await runsAt('B');
  expect(await B.migrate(A, MOVE)).toMatchObject({ exit: 0 });
  await A.startSend();
  await site.settled();
  expect(await site.exactlyOne()).toBe('A');
});

test('agent-send that is started with another guest directory finds its guest all the same', async () => {
  await start({ faults: { 'A.send': `kill@${AT.suspended}` } });
  const { A, B } = site;
  await A.begin(B, MOVE);
  await site.struck('A.send');
  const elsewhere = path.join(site.dir, 'elsewhere');
  fs.mkdirSync(elsewhere, { mode: 0o700 });
  await A.startSend(undefined, ['--guest-dir', elsewhere]);
  await runsAt('A'); // its handle leads to it
  await B.mustBeGone();
  await A.send.end();
  await A.startSend();
  await site.settled();
  expect(await site.exactlyOne()).toBe('A');
});

test('agent-recv that cannot see its running guest does not hand it back', async () => {
  await start({ faults: { 'A.send': `kill@${AT.toRelease}` } });
  const { A, B } = site;
  const id = await A.begin(B, MOVE);
  await site.struck('A.send');
  await runsAt('B');
  const elsewhere = path.join(site.dir, 'elsewhere');
  fs.mkdirSync(elsewhere, { mode: 0o700 });
  await B.recv.end('SIGKILL');
  await B.startRecv(undefined, ['--guest-dir', elsewhere]);
  const answer = await B.run(['resolve', id, '--give-up'], 'recv');
  await A.startSend();
  await heard(A, 'send', id);
  await B.recv.end('SIGKILL');
  await B.startRecv();
  await site.settled();
  expect(await site.exactlyOne()).toBe('B');
  expect(answer.code).not.toBe(0);
  expect(answer.stderr).toMatch(/not-seen|too-late/);
});

test.each([1, 2, 3])(
  'two hosts offer a guest of one name at once (%i): one is refused',
  async () => {
    site = await Site.start();
    const { A, B, C } = site;
    await Promise.all([A.boot(QUIET), C.boot({ ...QUIET, memory: '48MiB' })]);
    const [fromA, fromC] = await Promise.all([A.migrate(B, MOVE), C.migrate(B, MOVE)]);
    const [winner, loser, memory] = fromA.exit === 0 ? [A, C, 32] : [C, A, 48];
    const refused = fromA.exit === 0 ? fromC : fromA;
    expect([fromA.exit, fromC.exit].sort()).toEqual([0, 1]);
    await B.mustRun();
    const arrived = await B.ask<{ description: { regions: { pages: number }[] } }>(
      'vm1',
      'query-guest',
    );
    expect(arrived!.description.regions[0]!.pages).toBe(memory * 256);
    await winner.mustBeGone();
    await loser.mustRun();
    await site.settled();
    expect(refused).toMatchObject({ outcome: 'failed' });
    expect(refused.code).toMatch(/guest-busy|guest-exists/);
    site.mustLive();
  },
);

test('a guest that is arriving cannot be offered again, and cannot be moved on', async () => {
  site = await Site.start();
  const { A, B, C } = site;
  await Promise.all([A.boot(LARGE), C.boot(QUIET)]);
  const first = await A.begin(B, [...MOVE, '--bandwidth', '1MB/s']);
  await until(async () => (await A.view(first)).phase === 'precopy', 'the first is in precopy');
  const second = await C.migrate(B, MOVE);
  expect(second).toMatchObject({ exit: 1, code: 'guest-busy' });
  expect(second.message).toContain(first);
  const on = await B.run(['migrate', 'vm1', C.target, ...MOVE]);
  expect(on.code).toBe(1);
  expect(on.stderr).toMatch(/guest-busy|guest-not-running/);
  const again = await A.run(['migrate', 'vm1', C.target, ...MOVE]);
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('guest-busy') });
  await A.run(['set', first, '--bandwidth', 'none']);
  expect(await A.ended(first)).toMatchObject({ outcome: 'completed' });
  await Promise.all([B.mustRun(), C.mustRun(), A.mustBeGone()]);
});

test('keep-here on a migration that the guest has left behind: the copy stands down', async () => {
  const first = await movedToB();
  const { A, B, C } = site;
  expect(await B.migrate(C, MOVE)).toMatchObject({ exit: 0 });
  await runsAt('C');
  expect(watcher.violation).toBeUndefined();
  await site.kill('B.recv');
  await A.startSend();
  // The person at A has been told the risk: until B is back there are two.
  expect(await A.run(['resolve', first, '--keep-here'])).toMatchObject({ code: 0 });
  await until(() => watcher.running.includes('A'), 'it runs at A');
  await B.startRecv();
  await until(() => !watcher.running.includes('A'), 'the copy at A stands down');
  await C.mustRun();
  expect((await A.run(['show', first])).stdout).toContain('the copy here is stopped');
  expect((await B.run(['show', first], 'recv')).stdout).toContain('has moved on from here');
  expect((await A.run(['list'])).stdout).toContain(first);
  expect(await A.run(['resolve', first, '--give-up'])).toMatchObject({ code: 0 });
  watcher.forgive();
  await site.settled();
  expect(await site.exactlyOne()).toBe('C');
});

test('give-up on a migration that the guest has left behind: only the old copy goes', async () => {
  const first = await movedToB();
  const { A, B, C } = site;
  expect(await B.migrate(C, MOVE)).toMatchObject({ exit: 0 });
  await site.kill('B.recv');
  await A.startSend();
  expect(await A.run(['resolve', first, '--give-up'])).toMatchObject({ code: 0 });
  await B.startRecv();
  await site.settled();
  expect(await site.exactlyOne()).toBe('C');
});

/** A has committed and stands still; B has its copy and is up, and a person decides there. */
async function decidedAtB(choice: string): Promise<void> {
  await start({ faults: { 'A.send': `stop@${AT.toSendCommit}` } });
  const id = await site.A.begin(site.B, MOVE);
  await until(() => site.A.send.standsStill, 'A stands still');
  expect(await site.B.run(['resolve', id, choice], 'recv')).toMatchObject({ code: 0 });
  site.A.send.process.kill('SIGCONT');
  await site.settled();
}

test('a person keeps the guest at the destination while the source is up', async () => {
  await decidedAtB('--keep-here');
  expect(await site.exactlyOne()).toBe('B');
});

test('a person gives the guest up at the destination while the source is up', async () => {
  await decidedAtB('--give-up');
  expect(await site.exactlyOne()).toBe('A');
});

test('a person keeps the guest at the source while the destination is up', async () => {
  await start({ faults: { 'B.recv': `stop@${AT.toBeRunning}` } });
  const { A, B } = site;
  const id = await A.begin(B, MOVE);
  await until(() => B.recv.standsStill, 'B stands still');
  const answer = await A.run(['resolve', id, '--keep-here']);
  B.recv.process.kill('SIGCONT');
  // Whether B had begun to run it, only B knew: in the end one of them does, and both say which.
  await until(() => watcher.running.length === 1, 'one of them runs');
  if (answer.code === 0 && watcher.status('B') !== undefined && watcher.running[0] === 'A') {
    const { stdout } = await B.run(['show', id], 'recv');
    expect(stdout).not.toContain('the guest runs here');
    await until(() => watcher.status('B') !== 'running', 'B has stopped its copy');
    await B.run(['resolve', id, '--give-up'], 'recv');
    watcher.forgive();
  }
  await site.settled();
  await site.exactlyOne();
});

test('running, stopped by a decision, kept after all: in one process', async () => {
  const id = await movedToB();
  const { A, B } = site;
  await site.kill('B.recv');
  await A.startSend();
  expect(await A.run(['resolve', id, '--keep-here'])).toMatchObject({ code: 0 });
  await B.startRecv();
  await until(() => watcher.status('B') === 'paused', 'B stops its copy');
  const { stdout } = await B.run(['show', id], 'recv');
  expect(stdout).not.toContain('the guest runs here');
  expect((await B.run(['list'], 'recv')).stdout).not.toContain('completed');

  await A.quitGuest(); // the person has looked at both and shuts this one down
  watcher.forgive();
  expect(await B.run(['resolve', id, '--keep-here'], 'recv')).toMatchObject({ code: 0 });
  await runsAt('B');
  await site.settled();
  expect(await site.exactlyOne()).toBe('B');
});
