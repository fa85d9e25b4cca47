import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import { LONG } from '../long.ts';
import { until } from './daemon.ts';
import { noSlowDisks, noSmallDisks, SlowDisk, SmallDisk } from './disks.ts';
import type { Host } from './host.ts';
import { LARGE, QUIET } from './ordeals.ts';
import { AT } from './places.ts';
import { type AgentName, type HostName, Site, type SiteOptions, split } from './site.ts';
import type { Watcher } from './watcher.ts';

/* Disks of agents that are full, or slow and then broken: the guest runs, once, and without a person. */

const MOVE = ['--max-suspend-time', '20s'];
const SLOWLY = ['--bandwidth', '1MB/s', '--suspend-bandwidth', '1MB/s', '--no-compression'];
const SECONDS = 1000;

let site: Site;
let watcher: Watcher<HostName>;
let small: SmallDisk | undefined;
let slow: SlowDisk | undefined;
afterEach(async ({ task }) => {
  if (slow) slow.mood = 'fine';
  small?.free();
  await site.finish(task.result?.state === 'fail');
  small?.remove();
  slow?.remove();
  small = undefined;
  slow = undefined;
});

async function start(
  options: SiteOptions = {},
  guest: Partial<BootOptions> = QUIET,
): Promise<void> {
  site = await Site.start({ agents: ['A.send', 'B.recv'], ...options });
  await site.A.boot(guest);
  watcher = site.watch();
}

function runsAt(name: HostName): Promise<void> {
  return until(() => watcher.running.includes(name), `the guest runs at ${name}`, 60 * SECONDS);
}

async function ends(expected: HostName): Promise<void> {
  await site.settled();
  expect(await site.exactlyOne()).toBe(expected);
  site.mustLive();
}

const whyNotSmall = noSmallDisks();
if (whyNotSmall) process.stderr.write(`full disks are not tested: ${whyNotSmall}\n`);

describe.skipIf(whyNotSmall !== undefined)('a full state directory', () => {
  function startOnSmallDisk(agent: AgentName, fault?: string): Promise<void> {
    small = new SmallDisk();
    const faults = fault === undefined ? {} : { [agent]: fault };
    return start({ stateDirs: { [agent]: small.dir }, faults });
  }

  test('at the start of agent-send: it serves, and a move is refused until there is room', async () => {
    await startOnSmallDisk('A.send');
    await site.A.send.end();
    small!.fill();
    await site.A.startSend();
    const refused = await site.A.migrate(site.B, MOVE);
    expect(refused).toMatchObject({ exit: 1, outcome: 'failed' });
    expect(refused.code).toMatch(/journal-failed|ledger-failed/);
    await site.A.mustRun();
    await site.B.mustBeGone();
    small!.free();
    await site.A.ended(refused.id); // what it owed is written, by itself
    expect(await site.A.migrate(site.B, MOVE)).toMatchObject({ exit: 0 });
    await ends('B');
  });

  test('when agent-send comes back to a suspended guest: it runs again without a person', async () => {
    await startOnSmallDisk('A.send', `kill@${AT.suspended}`);
    const { A, B } = site;
    await A.begin(B, MOVE);
    await site.struck('A.send');
    small!.fill();
    await A.startSend();
    await runsAt('A'); // while the disk is full
    small!.free();
    await ends('A');
  });

  test('when agent-send comes back to a guest that was given away: it is told when there is room', async () => {
    await startOnSmallDisk('A.send', `kill@${AT.commitSent}`);
    const { A, B } = site;
    await A.begin(B, MOVE);
    await site.struck('A.send');
    await runsAt('B');
    small!.fill();
    await A.startSend();
    await until(async () => {
      const [view] = await A.list('send');
      // The record may still fit into the last page of the file.
      return view?.waitsFor !== undefined || view?.phase === 'ended';
    }, 'it says what it waits for, or is through');
    small!.free();
    await ends('B');
  });

  test('when agent-recv comes back to a guest that it was given: it runs without a person', async () => {
    await startOnSmallDisk('B.recv', `kill@${AT.running}`);
    const { A, B } = site;
    await A.begin(B, MOVE);
    await site.struck('B.recv');
    small!.fill();
    await B.startRecv();
    await runsAt('B'); // while the disk is full
    small!.free();
    await ends('B');
  });
});

/** How it went is known, whatever is still to be written. */
async function failed(host: Host, id: string): Promise<void> {
  await until(async () => (await host.view(id)).outcome !== undefined, `${id} has an outcome`);
  expect((await host.view(id)).outcome).not.toBe('completed');
}

const whyNotSlow = noSlowDisks();
if (whyNotSlow) process.stderr.write(`slow disks are not tested: ${whyNotSlow}\n`);

// A file on a tmpfs has room to the end of its last page; this disk has none at all.
test.skipIf(whyNotSlow !== undefined)(
  'a disk of agent-send that is full in the middle of a move: the guest runs on, other moves are not harmed',
  async () => {
    slow = new SlowDisk();
    await start({ env: { A: slow.env } }, LARGE);
    const { A, B, C } = site;
    await C.startRecv();
    await A.boot({ ...LARGE, name: 'vm2' });
    const other = await A.begin(C, SLOWLY, 'vm2');
    const id = await A.begin(B, SLOWLY);
    await until(async () => (await A.view(id)).pagesSent > 0, 'pages are sent');
    slow.mood = 'full';
    await A.run(['set', id, '--bandwidth', 'none', ...MOVE]);
    await failed(A, id); // its end is written when there is room
    await A.mustRun();
    expect((await A.view(other)).phase).not.toBe('ended');
    slow.mood = 'fine';
    await A.ended(id);
    await A.run(['set', other, '--bandwidth', 'none', '--max-suspend-time', '20s']);
    expect(await A.ended(other)).toMatchObject({ outcome: 'completed' });
    await A.migrate(B, MOVE);
    await ends('B');
    await C.mustRun('vm2');
  },
);

test.skipIf(whyNotSlow !== undefined)(
  'a disk of agent-recv that is full in the middle of a move: the guest runs on at its source',
  async () => {
    slow = new SlowDisk();
    await start({ env: { B: slow.env } }, LARGE);
    const { A, B } = site;
    const id = await A.begin(B, SLOWLY);
    await until(async () => (await A.view(id)).pagesSent > 0, 'pages are sent');
    slow.mood = 'full';
    await A.run(['set', id, '--bandwidth', 'none', ...MOVE]);
    await failed(A, id);
    await A.mustRun();
    slow.mood = 'fine';
    await site.settled();
    expect(await A.migrate(B, MOVE)).toMatchObject({ exit: 0 });
    await ends('B');
  },
);

test.skipIf(whyNotSlow !== undefined)(
  'disks that take 100 ms to sync: nobody is suspended for records that cannot be there in time',
  async () => {
    slow = new SlowDisk();
    await start({ env: { A: slow.env, B: slow.env } });
    const { A, B } = site;
    slow.mood = 'slow';
    // Committed, prepared and running are three of them.
    const refused = await A.migrate(B, ['--max-suspend-time', '150ms']);
    expect(refused).toMatchObject({ outcome: 'aborted', code: 'policy-abort' });
    expect(refused.suspension).toBeUndefined();
    expect(refused.enoughMs).toBeGreaterThan(300);
    const moved = await A.migrate(B, MOVE);
    expect(moved).toMatchObject({ outcome: 'completed' });
    expect(moved.suspension!.guestMs).toBeGreaterThan(300);
    await ends('B');
  },
);

describe.skipIf(whyNotSlow !== undefined)('a disk that is slow and then fails', () => {
  const LIMIT_MS = 8000;

  /** The agent stands before that record, and its disk hangs from there on. */
  async function hangsAt(agent: AgentName, place: string): Promise<string> {
    slow = new SlowDisk();
    const [host] = split(agent);
    const { env } = slow;
    await start({ faults: { [agent]: `stop@${place}` }, env: { [host]: env } });
    const id = await site.A.begin(site.B, ['--max-suspend-time', `${LIMIT_MS}ms`]);
    await until(() => site.agent(agent).standsStill, `${agent} stands at ${place}`);
    slow.mood = 'hang';
    site.agent(agent).process.kill('SIGCONT');
    return id;
  }

  /** By which the agent has found its record durable, or not. */
  async function limitPasses(): Promise<void> {
    await sleep(LIMIT_MS + SECONDS);
  }

  describe.each([
    // The committed record: nobody knows whether it is there, and the limit has passed.
    ['fail', LONG],
    // It is there, too late; the one that would take it back fails, and may be there as well.
    ['fail-later', {}],
  ] as const)('%s', (mood, more) => {
    test('at the committed record of the source, and it is killed', more, async () => {
      await hangsAt('A.send', AT.toCommit);
      await limitPasses();
      slow!.mood = mood;
      await until(
        () => watcher.running.length > 0 || /fail|cannot/.test(site.A.send.log),
        'it goes on from there',
      );
      await until(() => /cannot be|EIO/.test(site.A.send.log), 'it has seen that its disk fails');
      await site.kill('A.send');
      slow!.mood = 'fine';
      await site.startAgent('A.send');
      await site.settled();
      await site.exactlyOne();
      site.mustLive();
    });

    test('at the committed record, and comes back', more, async () => {
      await hangsAt('A.send', AT.toCommit);
      await limitPasses();
      slow!.mood = mood;
      await until(() => /cannot be|EIO/.test(site.A.send.log), 'it has seen that its disk fails');
      slow!.mood = 'fine';
      await site.settled(); // by the agent that has met it
      await site.exactlyOne();
      site.mustLive();
    });

    test('at the running record of the destination', more, async () => {
      await hangsAt('B.recv', AT.toBeRunning);
      await limitPasses();
      slow!.mood = mood;
      await until(
        () => watcher.running.length > 0 || /cannot be|EIO/.test(site.B.recv.log),
        'it goes on from there',
      );
      await site.kill('B.recv');
      slow!.mood = 'fine';
      await site.startAgent('B.recv');
      await site.settled();
      await site.exactlyOne();
      site.mustLive();
    });
  });

  test('agent-send dies while the committed record is on its way to the disk', async () => {
    await hangsAt('A.send', AT.toCommit);
    await limitPasses();
    await site.kill('A.send');
    slow!.mood = 'fine';
    await site.startAgent('A.send');
    await site.settled();
    await site.exactlyOne();
  });
});
