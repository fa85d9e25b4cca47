import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/daemon.ts';
import { Cluster, type NodeName, whyNoCluster } from './cluster.ts';
import { SimulatedWeb1 } from './web1.ts';

const BOUND_MS = 300_000;
vi.setConfig({ testTimeout: BOUND_MS, hookTimeout: BOUND_MS });

const reason = whyNoCluster();
const title = reason === undefined ? 'a cluster' : `a cluster (skipped: ${reason})`;

/* One cluster for all: each test goes on where the one before has ended. */
describe.skipIf(reason)(title, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(new SimulatedWeb1());
  });
  afterAll(() => cluster?.end());
  afterEach(({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(cluster.story());
  });

  function other(node: NodeName): NodeName {
    return node === 'n1' ? 'n2' : 'n1';
  }

  test('moves its guest, which does not notice', async () => {
    const beats = await cluster.beats('n1');
    expect(beats).toBeGreaterThan(0);
    expect(cluster.calls()).toEqual(['n1:start']);
    cluster.forgetCalls();
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--move', '--node', 'n2', '-Q');
    await cluster.livesAt('n2', beats);
    await cluster.settled();
    expect(cluster.calls()).toEqual(['n1:migrate_to', 'n2:migrate_from', 'n1:stop']);
    expect(await cluster.meta('n1', 'maintenance')).toBe('');
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--clear', '-Q');
  });

  test('empties a node that goes on standby', async () => {
    const beats = await cluster.beats('n2');
    cluster.forgetCalls();
    await cluster.on('n2', 'crm_standby', '-N', 'n2', '-v', 'on');
    await cluster.livesAt('n1', beats);
    await cluster.settled();
    expect(cluster.calls()).toEqual(['n2:migrate_to', 'n1:migrate_from', 'n2:stop']);
    await cluster.on('n1', 'crm_standby', '-N', 'n2', '-D');
    await cluster.settled();
  });

  test('leaves a guest where it is that cannot be moved', async () => {
    const beats = await cluster.beats('n1');
    cluster.forgetCalls();
    await cluster.endAgent('n2', 'recv');
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--move', '--node', 'n2', '-Q');
    const failed = async () => (await cluster.try('n1', 'crm_mon', '-1')).includes('FAILED');
    await until(failed, 'the move has failed', BOUND_MS);
    await cluster.settled();
    expect(cluster.calls()).toEqual(['n1:migrate_to']);
    await cluster.startAgent('n2', 'recv');
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--clear', '-Q');
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--cleanup');
    await cluster.livesAt('n1', beats);
    await cluster.settled();
    expect(cluster.calls()).toEqual(['n1:migrate_to']);
  });

  test('keeps a guest that was given away when its source is lost, and knows where it is', async () => {
    const from = 'n1';
    const to = other(from);
    const beats = await cluster.beats(from);
    cluster.forgetCalls();
    // The guest runs at its destination, and its source has not heard of it.
    await cluster.startAgent(from, 'send', 'stop@source.before.journal-released');
    await cluster.on(from, 'crm_resource', '-r', 'web1', '--move', '--node', to, '-Q');
    await until(() => cluster.isAt(to), `web1 runs at ${to}`, BOUND_MS);
    const standsStill = () => cluster.agents.get(`${from} send`)!.standsStill;
    await until(standsStill, 'its source has not written that down');
    expect(await cluster.meta(to, 'maintenance')).toBe('true');
    cluster.switchOff(from);
    await until(() => cluster.fenced.includes(from), `${from} is fenced`, BOUND_MS);
    await until(
      async () => (await cluster.meta(to, 'maintenance')) === '',
      'it is handed back',
      BOUND_MS,
    );
    await cluster.livesAt(to, beats);
    await cluster.settled(to);
    expect(cluster.calls()).toEqual([`${from}:migrate_to`]);
    expect(cluster.agents.get(`${to} recv`)!.log).toMatch(/n1 was fenced at .* \(by n2\)/);
  });

  test('starts a guest anew whose host is lost before it was given away', async () => {
    await cluster.on('n2', 'crm_resource', '-r', 'web1', '--clear', '-Q');
    await cluster.switchOn('n1');
    await cluster.settled('n2');
    const beats = await cluster.beats('n2');
    cluster.forgetCalls();
    await cluster.startAgent('n2', 'send', 'stop@source.before.journal-suspended');
    await cluster.on('n2', 'crm_resource', '-r', 'web1', '--move', '--node', 'n1', '-Q');
    const standsStill = () => cluster.agents.get('n2 send')!.standsStill;
    await until(standsStill, 'the guest is about to be suspended', BOUND_MS);
    cluster.switchOff('n2');
    await until(() => cluster.isAt('n1'), 'web1 runs at n1', BOUND_MS);
    await until(() => cluster.shownAt('n1'), 'Pacemaker says so', BOUND_MS);
    expect(await cluster.beats('n1')).toBeLessThan(beats);
    expect(cluster.fenced).toEqual(['n1', 'n2']);
    expect(cluster.calls()).toEqual(['n2:migrate_to', 'n1:start']);
  });

  test('has a guest go on at its source whose destination is lost with it, once that is fenced', async () => {
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--clear', '-Q');
    await cluster.switchOn('n2');
    await cluster.settled();
    const beats = await cluster.beats('n1');
    cluster.forgetCalls();
    // It was given away, and has not run there.
    await cluster.startAgent('n2', 'recv', 'stop@destination.before.journal-running');
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--move', '--node', 'n2', '-Q');
    const standsStill = () => cluster.agents.get('n2 recv')!.standsStill;
    await until(standsStill, 'the guest was given away', BOUND_MS);
    cluster.switchOff('n2');
    await cluster.livesAt('n1', beats);
    expect(cluster.fenced).toEqual(['n1', 'n2', 'n2']);
    expect(cluster.calls()).toEqual(['n1:migrate_to', 'n1:start']);
    const { log } = cluster.agents.get('n1 send')!;
    expect(log).toMatch(/Pacemaker \(n2 was fenced at .*\) decides --keep-here/);
  });
});
