import { afterEach, expect, test } from 'vitest';
import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import { until } from './daemon.ts';
import type { Host, Role } from './host.ts';
import { Interposer } from './interposer.ts';
import { LARGE, QUIET } from './ordeals.ts';
import { AT } from './places.ts';
import { type HostName, Site, type SiteOptions } from './site.ts';
import type { Watcher } from './watcher.ts';

/*
 * A hypervisor that does not answer, or says no, at any moment of a move: agents go on answering,
 * say what they wait for, and do what they owe the guest when it is possible again.
 */

const MOVE = ['--max-suspend-time', '20s'];
const SLOWLY = [
  '--bandwidth',
  '1MB/s',
  '--suspend-bandwidth',
  '1MB/s',
  '--no-compression',
  '--prefer',
  'completion',
];
const SECONDS = 1000;
/** Longer than any limit of an agent for a hypervisor's answer. */
const LIMITS_PASSED_MS = 60 * SECONDS;

/** C is only needed where a guest is moved on. */
const TWO = ['A.send', 'A.recv', 'B.send', 'B.recv'] as const;

let site: Site;
let watcher: Watcher<HostName>;
let interposer: Interposer | undefined;
afterEach(async ({ task }) => {
  await site.finish(task.result?.state === 'fail');
  interposer?.close();
  interposer = undefined;
});

async function start(
  options: SiteOptions = {},
  guest: Partial<BootOptions> = QUIET,
): Promise<void> {
  site = await Site.start({ agents: TWO, ...options });
  await site.A.boot(guest);
}

/** `list` says that the guest itself is waited for, not the peer. */
function waitsForGuest(host: Host, role: Role): Promise<void> {
  return until(
    async () =>
      (await host.list(role)).some(({ waitsFor }) => /guest|VMM|copy/.test(waitsFor ?? '')),
    `${host.name}.${role} says that it waits for the guest`,
    LIMITS_PASSED_MS,
  );
}

/** A VMM stands still: every agent tells about everything else. */
async function agentsAnswer(): Promise<void> {
  for (const host of [site.A, site.B]) {
    expect(await host.run(['guests']), host.story()).toMatchObject({ code: 0 });
    await Promise.all([host.list('send'), host.list('recv')]);
  }
}

async function ends(expected: HostName): Promise<void> {
  await site.settled();
  expect(await site.exactlyOne()).toBe(expected);
  site.mustLive();
}

test('a resume that the hypervisor refuses once is tried again', async () => {
  await start({}, LARGE);
  const { A, B } = site;
  interposer = await Interposer.before(A.socketOf('vm1'));
  watcher = site.watch();
  const id = await A.begin(B, SLOWLY);
  await A.tell(id, 'cutover');
  await until(async () => (await A.view(id)).phase === 'stop-and-copy', 'the guest stands');
  interposer.refuse.set('cont', 1);
  await A.tell(id, 'cancel');
  await until(() => interposer!.refused === 1, 'the resume was refused');
  await until(() => watcher.running.includes('A'), 'the guest runs again');
  await ends('A');
});

test('a resume that the hypervisor refuses for long is waited for, also by the next agent', async () => {
  await start({ faults: { 'A.send': `kill@${AT.suspended}` } });
  const { A, B } = site;
  interposer = await Interposer.before(A.socketOf('vm1'));
  interposer.refuse.set('cont', 1000);
  watcher = site.watch();
  await A.begin(B, MOVE);
  await site.struck('A.send');
  await A.startSend();
  await until(() => interposer!.refused > 1, 'it was tried more than once');
  await waitsForGuest(A, 'send');
  await site.restart('A.send');
  interposer.refuse.clear();
  await until(() => watcher.running.includes('A'), 'the guest runs again');
  await ends('A');
});

test('a destination whose hypervisor refuses to run the guest once', async () => {
  await start({ faults: { 'B.recv': `stop@${AT.toBeRunning}` } });
  const { A, B } = site;
  watcher = site.watch();
  await A.begin(B, MOVE);
  await until(() => B.recv.standsStill, 'B has its copy');
  // It has its connection already: only the next agent meets the one that refuses.
  await site.kill('B.recv');
  interposer = await Interposer.before(B.socketOf('vm1'));
  interposer.refuse.set('cont', 1);
  await B.startRecv();
  await until(() => interposer!.refused === 1, 'it was refused');
  await site.settled();
  // A refusal of a guest that never ran lets the source have it back; else it is tried again.
  expect(['A', 'B']).toContain(await site.exactlyOne());
});

test.each(['A', 'B'] as const)('the VMM at %s stands still in precopy', async (name) => {
  await start({}, LARGE);
  const { A, B } = site;
  watcher = site.watch();
  const id = await A.begin(B, SLOWLY);
  await until(async () => (await A.view(id)).pagesSent > 0, 'pages are sent');
  await site[name].haltGuest();
  await agentsAnswer();
  site[name].continueGuests();
  await A.run(['set', id, '--bandwidth', 'none', '--max-suspend-time', '20s']);
  const { outcome } = await A.ended(id);
  await ends(outcome === 'completed' ? 'B' : 'A');
});

test.each(['A', 'B'] as const)('the VMM at %s stands still in stop-and-copy', async (name) => {
  await start({}, LARGE);
  const { A, B } = site;
  watcher = site.watch();
  const id = await A.begin(B, SLOWLY);
  await A.tell(id, 'cutover');
  await until(async () => (await A.view(id)).phase === 'stop-and-copy', 'the guest stands');
  await site[name].haltGuest();
  await A.tell(id, 'cancel');
  // A copy that only has to go is ended, whether it listens or not.
  if (name === 'A') await waitsForGuest(A, 'send');
  await agentsAnswer();
  site[name].continueGuests();
  await until(() => watcher.running.includes('A'), 'the guest runs again');
  await ends('A');
});

test('the VMM stands still when the next agent finds its guest suspended', async () => {
  await start({ faults: { 'A.send': `kill@${AT.suspended}` } });
  const { A, B } = site;
  watcher = site.watch();
  await A.begin(B, MOVE);
  await site.struck('A.send');
  await A.haltGuest();
  await A.startSend();
  await waitsForGuest(A, 'send');
  A.continueGuests();
  await until(() => watcher.running.includes('A'), 'the guest runs again');
  await ends('A');
});

test('the VMM stands still when its guest is to run at the destination', async () => {
  await start({ faults: { 'B.recv': `stop@${AT.toResume}` } });
  const { A, B } = site;
  watcher = site.watch();
  await A.begin(B, MOVE);
  await until(() => B.recv.standsStill, 'B is about to run it');
  await B.haltGuest();
  B.recv.process.kill('SIGCONT');
  await waitsForGuest(B, 'recv');
  await agentsAnswer();
  B.continueGuests();
  await ends('B');
});

test('the VMM stands still when its copy is to go: migrate ends, the agent ends, the copy goes', async () => {
  await start({ faults: { 'A.send': `stop@${AT.toRelease}` } });
  const { A, B } = site;
  watcher = site.watch();
  const moved = A.migrate(B, MOVE);
  await until(() => A.send.standsStill, 'A is about to let go');
  await A.haltGuest();
  A.send.process.kill('SIGCONT');
  expect(await moved).toMatchObject({ exit: 0, outcome: 'completed' });
  await B.mustRun();
  expect(await A.send.end('SIGTERM')).toBe(0);
  await A.startSend();
  A.continueGuests();
  await ends('B');
});

test('one VMM that stands still does not hold up the others', async () => {
  await start();
  const { A, B } = site;
  await A.boot({ ...QUIET, name: 'vm2' });
  await A.haltGuest('vm1');
  await agentsAnswer();
  expect(await A.migrate(B, MOVE, 'vm2')).toMatchObject({ exit: 0 });
  const refused = await A.run(['migrate', 'vm1', B.target, ...MOVE]);
  expect(refused.code).toBe(1);
  A.continueGuests();
  expect(await A.migrate(B, MOVE)).toMatchObject({ exit: 0 });
});
