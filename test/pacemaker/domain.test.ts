import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/daemon.ts';
import { whyNoLibvirt } from '../libvirt/libvirt-host.ts';
import { Cluster, whyNoCluster } from './cluster.ts';
import { DomainWeb1 } from './web1.ts';

const BOUND_MS = 300_000;
vi.setConfig({ testTimeout: BOUND_MS, hookTimeout: BOUND_MS });

const reason = whyNoCluster() ?? whyNoLibvirt();
const title = 'a cluster with a domain of libvirt';

/* One cluster for all: each test goes on where the one before has ended. */
describe.skipIf(reason)(reason === undefined ? title : `${title} (skipped: ${reason})`, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(await DomainWeb1.build());
  });
  afterAll(() => cluster?.end());
  afterEach(({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(cluster.story());
  });

  test('starts it, moves it, and moves it back when its node goes on standby', async () => {
    await cluster.livesAt('n1', 0);
    const first = await cluster.beats('n1');
    expect(cluster.calls()).toEqual(['n1:start']);
    cluster.forgetCalls();
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--move', '--node', 'n2', '-Q');
    await cluster.livesAt('n2', first);
    await cluster.settled();
    expect(cluster.calls()).toEqual(['n1:migrate_to', 'n2:migrate_from', 'n1:stop']);
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--clear', '-Q');

    const second = await cluster.beats('n2');
    cluster.forgetCalls();
    await cluster.on('n2', 'crm_standby', '-N', 'n2', '-v', 'on');
    await cluster.livesAt('n1', second);
    await cluster.settled();
    expect(cluster.calls()).toEqual(['n2:migrate_to', 'n1:migrate_from', 'n2:stop']);
    await cluster.on('n1', 'crm_standby', '-N', 'n2', '-D');
    await cluster.settled();
  });

  test('keeps it where it runs when the node that gave it away is lost', async () => {
    const beats = await cluster.beats('n1');
    cluster.forgetCalls();
    await cluster.startAgent('n1', 'send', 'stop@source.before.journal-released');
    await cluster.on('n1', 'crm_resource', '-r', 'web1', '--move', '--node', 'n2', '-Q');
    await until(() => cluster.isAt('n2'), 'web1 runs at n2', BOUND_MS);
    const standsStill = () => cluster.agents.get('n1 send')!.standsStill;
    await until(standsStill, 'its source has not written that down');
    cluster.switchOff('n1');
    await until(() => cluster.fenced.includes('n1'), 'n1 is fenced', BOUND_MS);
    const isHandedBack = async () => (await cluster.meta('n2', 'maintenance')) === '';
    await until(isHandedBack, 'it is handed back', BOUND_MS);
    await cluster.livesAt('n2', beats);
    await cluster.settled('n2');
    expect(cluster.calls()).toEqual(['n1:migrate_to']);
  });
});
