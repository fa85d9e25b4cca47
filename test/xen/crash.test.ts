import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receiverOf, XenHosts } from './xen-hosts.ts';

const LONG = ['--max-suspend-time', '60s', '--timeout', '5m'];

/** What is killed, where it happens: the side and the point at which the fake xl of that side waits. */
type Kill = readonly [
  victim: 'xl' | 'agent-send xl' | 'migrate-receive',
  side: Side,
  point: string,
];
type Side = 'source' | 'destination';

describe('when a process of the move is killed, the guest runs once', () => {
  let xen: XenHosts;
  beforeAll(async () => {
    xen = await XenHosts.start();
  });
  afterAll(() => xen.end());

  const STAYS: readonly Kill[] = [
    ['agent-send xl', 'source', 'round-1'],
    ['agent-send xl', 'source', 'suspended'],
    ['agent-send xl', 'destination', 'before-ready'],
    ['agent-send xl', 'source', 'before-go'],
    ['xl', 'source', 'round-1'],
    ['xl', 'source', 'tail'],
    ['xl', 'destination', 'before-ready'],
    ['xl', 'source', 'before-go'],
    ['migrate-receive', 'destination', 'loading'],
    ['migrate-receive', 'destination', 'before-ready'],
  ];
  it.each(STAYS)(
    '%s, with xl at its %s at %s: it stays, and moves the next time',
    async (...kill) => {
      const said = await strike(...kill);
      await xen.mustRunAt('source', said);
      await xen.mustHaveEnded();
      xen.boot();
      const next = xen.begin(...LONG);
      expect(await next.ended(), next.said + xen.log).toBe(0);
      await xen.mustRunAt('destination', next.said);
      await xen.mustHaveEnded();
    },
  );

  it('migrate-receive, when the guest runs and nobody has heard: it has moved', async () => {
    await strike('migrate-receive', 'destination', 'before-report');
    await xen.mustRunAt('destination');
    await xen.mustHaveEnded();
  });

  it('migrate-receive, when it has loaded the guest: it is one or the other, and once', async () => {
    await strike('migrate-receive', 'destination', 'ready');
    await xen.mustRunSomewhere();
    await xen.mustHaveEnded();
  });

  it('xl, when it was told that the guest runs: its domain is destroyed', async () => {
    await strike('xl', 'source', 'destroy');
    await xen.mustRunAt('destination');
    await xen.mustHaveEnded();
  });

  it('xl, on a Xen that cannot resume: that is said, and done once it can', async () => {
    xen.boot();
    xen.set('source', 'no-resume');
    xen.hold('source', 'tail');
    const run = xen.begin(...LONG);
    await xen.at('source', 'tail', run.said);
    run.kill();
    await xen.waitsFor(/xl has ended and left guest g1 suspended as domain \d+/);
    expect(xen.domain('source')?.state).toBe('---ss-');
    xen.set('source', 'no-resume', false);
    await xen.mustRunAt('source');
    await xen.mustHaveEnded();
  });

  async function strike(victim: Kill[0], side: Side, point: string): Promise<string> {
    xen.boot();
    xen.hold(side, point);
    const run = xen.begin(...LONG);
    await xen.at(side, point, run.said);
    if (victim === 'xl') run.kill();
    else if (victim === 'agent-send xl') process.kill(await run.transport(), 'SIGKILL');
    else process.kill(receiverOf(xen.hosts.destinationDir), 'SIGKILL');
    xen.goOn(side, point);
    await run.ended();
    return run.said;
  }
});

describe('when an agent is killed, its next run finishes it', () => {
  let xen: XenHosts;
  beforeAll(async () => {
    xen = await XenHosts.start();
  });
  afterAll(() => xen.end());

  it('agent-send while the guest runs or stands: xl runs it on', async () => {
    for (const point of ['round-1', 'suspended', 'tail']) {
      xen.boot();
      xen.hold('source', point);
      const run = xen.begin(...LONG);
      await xen.at('source', point, run.said);
      await xen.hosts.send.end('SIGKILL');
      xen.goOn('source', point);
      expect(await run.ended()).toBe(1);
      await xen.hosts.startSend(); // which tells the destination
      await xen.mustRunAt('source', run.said);
      await xen.mustHaveEnded();
    }
  });

  const SEND: readonly [fault: string, side: Side][] = [
    ['kill@source.before.journal-committed', 'source'],
    ['kill@source.after.journal-committed', 'destination'],
    ['kill@source.after.send-commit', 'destination'],
    ['kill@source.before.release-guest', 'destination'],
  ];
  it.each(SEND)(
    'agent-send, %s: xl waits for its word, and the guest runs at its %s',
    async (fault, side) => {
      await xen.hosts.send.end();
      xen.boot();
      await xen.hosts.startSend(fault);
      const run = xen.begin(...LONG);
      await xen.gone('send');
      await xen.hosts.startSend();
      expect(await run.ended(), run.said + xen.log).toBe(side === 'source' ? 1 : 0);
      await xen.mustRunAt(side, run.said);
      await xen.mustHaveEnded();
    },
  );

  const RECV: readonly [fault: string, side: Side][] = [
    ['kill@destination.after.journal-running', 'destination'],
    ['kill@destination.after.resume-guest', 'destination'],
  ];
  it.each(RECV)(
    'agent-recv, %s: xl migrate-receive waits for GO, and the guest runs at its %s',
    async (fault, side) => {
      await xen.hosts.recv.end();
      xen.boot();
      await xen.hosts.startRecv(fault);
      const run = xen.begin(...LONG);
      await xen.gone('recv');
      await xen.hosts.startRecv();
      expect(await run.ended(), run.said + xen.log).toBe(side === 'source' ? 1 : 0);
      await xen.mustRunAt(side, run.said);
      await xen.mustHaveEnded();
    },
  );

  it('agent-recv before it has said that the guest is there: it is one or the other, and once', async () => {
    await xen.hosts.recv.end();
    xen.boot();
    await xen.hosts.startRecv('kill@destination.after.journal-prepared');
    const run = xen.begin(...LONG);
    await xen.gone('recv');
    await xen.hosts.startRecv();
    await run.ended(); // the source may have given it up before the next run is there
    await xen.mustRunSomewhere();
    await xen.mustHaveEnded();
  });
});
