import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { parseLedger } from '../../lib/report/ledger.ts';
import { summarize } from '../../lib/report/summary.ts';
import { LONG } from '../long.ts';
import { type Daemon, until } from './daemon.ts';
import { Interposer } from './interposer.ts';
import { QUIET } from './ordeals.ts';
import { type AgentName, Site } from './site.ts';

/*
 * What holds an agent up inside a suspension does not hold up the guest: whoever is blocked or stands
 * still does so for longer than the guest may ever be suspended.
 */

const LIMIT_MS = 300;
const MOVE = ['--max-suspend-time', `${LIMIT_MS}ms`];
/** As lib/ownership/fault.ts blocks. */
const BLOCK_MS = 1500;

let site: Site;
let interposer: Interposer | undefined;
afterEach(async ({ task }) => {
  await site.finish(task.result?.state === 'fail');
  interposer?.close();
  interposer = undefined;
});

async function start(agent: AgentName, fault: string): Promise<void> {
  site = await Site.start({ agents: ['A.send', 'B.recv'], faults: { [agent]: fault } });
  await site.A.boot(QUIET);
}

/** Begins a move that suspends the guest however long that is forecast to take on this machine. */
async function force(options: readonly string[]): Promise<string> {
  const { A, B } = site;
  const id = await A.begin(B, [...options, '--hold']);
  await until(async () => (await A.view(id)).estimate !== undefined, 'there is a forecast');
  await A.tell(id, 'cutover');
  return id;
}

/** The longest suspension that the guest has seen, ms. */
async function suspended(): Promise<number> {
  const seen = await site.A.ask<{ suspensions: { ms: number }[] }>('vm1', 'query-heartbeat');
  return Math.max(...seen!.suspensions.map(({ ms }) => ms));
}

describe.each([
  ['source.after.suspend-guest', {}],
  ['source.suspension.sync', LONG],
  ['source.suspension.pages', {}],
  ['source.suspension.deviceState', LONG],
  ['source.suspension.digest', LONG],
  ['source.before.seal-guest', {}],
] as const)("the source's main thread is blocked %s", (place, more) => {
  test('the guest does not wait for it', more, async () => {
    await start('A.send', `block@${place}`);
    const { A, B } = site;
    const view = await A.ended(await force(MOVE));
    expect(view).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    expect(await suspended()).toBeLessThan(BLOCK_MS);
    // As the agents tell it, too: the end of the block is not the end of the suspension.
    expect(view.suspension!.agentMs).toBeLessThan(BLOCK_MS);
    await A.mustRun();
    expect(await A.migrate(B, ['--max-suspend-time', '20s'])).toMatchObject({ exit: 0 });
    await site.settled();
    expect(await site.exactlyOne()).toBe('B');
  });
});

/** A slow one comes to its standstill only after the source has given up. @returns ends that */
function keepGoing(agent: Daemon): () => void {
  const timer = setInterval(() => {
    if (agent.standsStill) agent.process.kill('SIGCONT');
  }, 50);
  timer.unref();
  return () => clearInterval(timer);
}

test('the destination stands still before it is prepared: the guest runs on at its source', async () => {
  await start('B.recv', 'stop@destination.before.journal-prepared');
  const { A, B } = site;
  const id = await force(MOVE);
  await until(async () => (await A.view(id)).code !== undefined, 'it has been given up');
  expect(await A.view(id)).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
  await A.mustRun();
  expect(await suspended()).toBeLessThan(BLOCK_MS);
  const letBe = keepGoing(B.recv);
  await site.settled();
  letBe();
  expect(await site.exactlyOne()).toBe('A');
});

describe('a hypervisor that is late with cont', () => {
  /** The destination is never prepared, so that the guest is recalled. */
  async function recalled(late: 'answeredLate' | 'doneLate') {
    await start('B.recv', 'stop@destination.before.journal-prepared');
    const { A, B } = site;
    interposer = await Interposer.before(A.socketOf('vm1'));
    interposer[late].set('cont', BLOCK_MS);
    const id = await force(MOVE);
    await until(async () => (await A.view(id)).suspension !== undefined, 'it runs again');
    const letBe = keepGoing(B.recv);
    const view = await A.ended(id);
    expect(view).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    interposer[late].clear();
    await site.settled();
    letBe();
    expect(await site.exactlyOne()).toBe('A');
    return view;
  }

  test('and answers late: the guest does not wait for the answer', async () => {
    await recalled('answeredLate');
    expect(await suspended()).toBeLessThan(BLOCK_MS);
  });

  test('and does it late: that the limit was exceeded is said, by whoever saw it', async () => {
    const { suspension } = await recalled('doneLate');
    expect(await suspended()).toBeGreaterThan(LIMIT_MS);
    expect(suspension!.guestMs).toBeGreaterThan(LIMIT_MS);
    expect(suspension!.agentMs).toBeGreaterThan(LIMIT_MS);
  });
});

test('a destination that stands still once it has the guest: that the limit was exceeded is said', async () => {
  await start('B.recv', 'stop@destination.before.resume-guest');
  const { A, B } = site;
  const limitMs = 5000;
  const id = await force(['--max-suspend-time', `${limitMs}ms`]);
  await until(() => B.recv.standsStill, 'it stands still');
  await sleep(limitMs);
  process.kill(B.recv.process.pid!, 'SIGCONT');
  const view = await A.ended(id);
  expect(view).toMatchObject({ outcome: 'completed' });
  const { guestMs, agentMs } = view.suspension!; // its last word may have been lost meanwhile
  expect(guestMs ?? agentMs).toBeGreaterThan(limitMs);
  const ledger = await A.client('send').text(`/migrations/${id}/ledger`);
  const { promise } = summarize(parseLedger(ledger, id));
  expect(promise).toMatchObject({ result: 'missed', limitMs });
  await site.settled();
  expect(await site.exactlyOne()).toBe('B');
});

test('a main thread that is blocked once the guest was given away: it runs, once, at its destination', async () => {
  await start('A.send', 'block@source.after.send-commit');
  const { A, B } = site;
  expect(await A.migrate(B, ['--max-suspend-time', '20s'])).toMatchObject({ exit: 0 });
  await site.settled();
  expect(await site.exactlyOne()).toBe('B');
});
