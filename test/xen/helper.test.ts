import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { helpersOf } from '../../lib/guest/xen/xl-processes.ts';
import { until } from '../e2e/hosts.ts';
import { XenHosts, type XlRun } from './xen-hosts.ts';

/** Where the limit is not what is tested. */
const LONG = ['--max-suspend-time', '60s'];

describe('with agent-send-helper between xl and its save helper', () => {
  let xen: XenHosts;
  beforeAll(async () => {
    xen = await XenHosts.start();
  });
  afterAll(() => xen.end());

  it('a guest is held when the rounds are over, and moved when it is released', async () => {
    xen.boot();
    const run = xen.beginHelped(...LONG, '--hold');
    await held(run);
    const { id } = await xen.view();
    expect((await xen.hosts.run(['cutover', id])).code).toBe(0);
    expect(await run.ended(), run.said + xen.log).toBe(0);
    await xen.mustRunAt('destination', run.said);
    xen.mustBeWhole();
    await xen.mustHaveEnded();
  });

  it('nobody is suspended for a limit that cannot be kept', async () => {
    xen.boot();
    const run = xen.beginHelped('--max-suspend-time', '10ms');
    expect(await run.ended(), run.said + xen.log).toBe(1);
    expect(run.said).toContain('failed to suspend at sender');
    await stays(run);
    const { code, message } = await xen.view();
    expect([code, message]).toEqual([
      'policy-abort',
      expect.stringContaining('would have been enough'),
    ]);
  });

  it('nor is one whose move is cancelled while it is held, and the next move moves it', async () => {
    xen.boot();
    const run = xen.beginHelped(...LONG, '--hold');
    await held(run);
    const { id } = await xen.view();
    expect((await xen.hosts.run(['cancel', id])).code).toBe(0);
    expect(await run.ended(), run.said + xen.log).toBe(1);
    expect(run.said).toContain('failed to suspend at sender'); // Xen's helper has cleaned up
    await stays(run);
    const next = xen.beginHelped(...LONG);
    expect(await next.ended(), next.said + xen.log).toBe(0);
    await xen.mustRunAt('destination', next.said);
  });

  it.each(['agent-send', 'agent-send xl', 'the helper'])(
    'nor is one whose %s is killed while it is held',
    async (victim) => {
      xen.boot();
      const run = xen.beginHelped(...LONG, '--hold');
      await held(run);
      if (victim === 'agent-send') await xen.hosts.send.end('SIGKILL');
      else {
        const pids = victim === 'agent-send xl' ? [await run.transport()] : helpersOf(run.pid);
        for (const pid of pids) process.kill(pid, 'SIGKILL');
      }
      expect(await run.ended(), run.said + xen.log).toBe(1);
      const isCleanedUp = victim !== 'the helper';
      expect(run.said.includes('failed to suspend at sender'), run.said).toBe(isCleanedUp);
      if (victim === 'agent-send') await xen.hosts.startSend();
      await stays(run);
    },
  );

  async function held(run: XlRun): Promise<void> {
    const isHeld = async () => (await xen.view())?.hold?.ready === true;
    await until(isHeld, `the guest is held\n${run.said}${xen.log}`);
    xen.mustNeverHaveStood();
  }

  async function stays(run: XlRun): Promise<void> {
    await xen.mustRunAt('source', run.said);
    await xen.mustHaveEnded();
    xen.mustNeverHaveStood();
  }
});
