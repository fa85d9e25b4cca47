import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { XenHosts } from './xen-hosts.ts';

/** Where the limit is not what is tested. */
const LONG = ['--max-suspend-time', '60s'];

describe('xl migrate with the agents as its transport', () => {
  let xen: XenHosts;
  beforeAll(async () => {
    xen = await XenHosts.start();
  });
  afterAll(() => xen.end());

  it('moves a guest: every page, what it is, and all else', async () => {
    xen.boot();
    const run = xen.begin(...LONG);
    expect(await run.ended(), run.said + xen.log).toBe(0);
    expect(run.said).toContain('Migration successful.');
    await xen.mustRunAt('destination');
    xen.mustBeWhole();
    await xen.mustHaveEnded();
  });

  it.each(['hvm', 'pvh'] as const)(
    'moves a guest whose highest page is not told: %s',
    async (kind) => {
      xen.boot();
      const run = xen.beginOf(kind, ...LONG);
      expect(await run.ended(), run.said + xen.log).toBe(0);
      await xen.mustRunAt('destination');
      xen.mustBeWhole(kind);
      await xen.mustHaveEnded();
    },
  );

  it('ends a move that misses its limit: xl resumes the guest, and the next attempt moves it', async () => {
    xen.boot();
    xen.hold('destination', 'before-ready');
    const run = xen.begin('--max-suspend-time', '3s');
    expect(await run.ended(), run.said + xen.log).toBe(1);
    expect(run.said).toContain('resuming at sender');
    await xen.over();
    const { code, message } = await xen.view();
    expect(code, message).toMatch(/suspension-limit|policy-abort/);
    expect(run.said).toMatch(
      /agent-send: .* \((suspension-limit|policy-abort)\)|`agent-send show .*` tells/,
    );
    await xen.mustRunAt('source', run.said);
    await xen.mustHaveEnded();
    await mustMove();
  });

  it('says that the limit was missed, also when xl is seen to end of that before', async () => {
    await xen.hosts.send.end();
    await xen.hosts.startSend('block@source.suspension.suspend');
    xen.boot();
    xen.hold('destination', 'before-ready');
    const run = xen.begin('--max-suspend-time', '1200ms');
    expect(await run.ended(), run.said + xen.log).toBe(1);
    await xen.over();
    const { code, message } = await xen.view();
    expect(code, message).toBe('suspension-limit');
    await xen.mustRunAt('source', run.said);
    await xen.mustHaveEnded();
    await mustMove();
  });

  it('denies GO when the limit is over by then: xl has renamed the guest, and resumes it', async () => {
    xen.boot();
    xen.hold('source', 'before-go');
    const run = xen.begin('--max-suspend-time', '5s');
    await xen.at('source', 'before-go', run.said);
    await sleep(7000); // whatever the agents have done by then, they have no GO
    xen.goOn('source', 'before-go');
    expect(await run.ended(), run.said + xen.log).toBe(1);
    expect(run.said).toContain('Resumed OK.');
    await xen.mustRunAt('source', run.said);
    await xen.mustHaveEnded();
  });

  it('cancels while the guest runs: the helper is told to end, and nothing is suspended', async () => {
    xen.boot();
    xen.hold('source', 'round-2');
    const run = xen.begin(...LONG);
    await xen.at('source', 'round-2', run.said);
    const { id } = await xen.view();
    expect((await xen.hosts.run(['cancel', id])).code).toBe(0);
    await xen.at('source', 'told');
    xen.goOn('source', 'round-2');
    expect(await run.ended(), run.said + xen.log).toBe(1);
    expect(run.said).toContain('failed to suspend at sender');
    await xen.mustRunAt('source', run.said);
    await xen.mustHaveEnded();
  });

  it('resumes the guest when xl cannot run it at its destination', async () => {
    xen.boot();
    xen.set('destination', 'cannot-run');
    const run = xen.begin(...LONG);
    expect(await run.ended(), run.said + xen.log).toBe(1);
    expect(run.said).toContain('Resumed OK.');
    await xen.mustRunAt('source', run.said);
    await xen.mustHaveEnded();
  });

  it('lists the domains of xl, and runs it for who migrates one as any other guest', async () => {
    xen.boot();
    expect((await xen.hosts.run(['guests'])).stdout).toMatch(/^g1 +xen +96 MiB +runs$/m);
    const args = ['migrate', 'g1', xen.hosts.target, ...LONG, '--lanes', '1'];
    const moved = await xen.run(args);
    expect([moved.code, moved.stdout + moved.stderr]).toEqual([
      0,
      expect.stringMatching(/outcome +completed[\s\S]*report: agent-send report/),
    ]);
    await xen.mustRunAt('destination', moved.stderr);
    xen.mustBeWhole();
    await xen.mustHaveEnded();
    xen.boot();
    const refused = await xen.run(['migrate', 'g1', '127.0.0.1:1']);
    expect(refused.code, refused.stderr).toBe(1);
    await xen.mustRunAt('source', refused.stderr);
  });

  it('begins nothing with what cannot be asked of xl', async () => {
    xen.boot();
    const held = xen.begin('--hold');
    expect(await held.ended()).toBe(1);
    expect(held.said).toContain('LIBXL_SAVE_HELPER=agent-send-helper');
    xen.boot();
    const run = xen.begin('--max-suspend-time', 'never');
    expect(await run.ended()).toBe(1);
    expect(run.said).toContain('--max-suspend-time');
    await xen.mustRunAt('source', run.said);
  });

  async function mustMove(): Promise<void> {
    xen.boot();
    const run = xen.begin(...LONG);
    expect(await run.ended(), run.said + xen.log).toBe(0);
    await xen.mustRunAt('destination', run.said);
    xen.mustBeWhole();
  }
});
