import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { type CuttableNetwork, noNamespaces, twoNamespaces } from '../e2e/namespaces.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const skip = whyNoQemu() ?? noNamespaces();
/** So slow that QEMU, the ingest thread and the workers all wait for the link when it is cut. */
const SLOWLY = [
  '--bandwidth',
  '5MB/s',
  '--suspend-bandwidth',
  '5MB/s',
  '--no-compression',
  '--max-suspend-time',
  '20s',
];

describe.skipIf(skip)(titled('a network that goes away under a QEMU guest'), () => {
  let network: CuttableNetwork;
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    network.join();
    await migration.end();
    network.close();
  });

  test('a cancel acts at once; the next migration outlives a cut', async () => {
    network = twoNamespaces();
    const limits = ['--peer-timeout', '1s', '--reconnect-timeout', '60s'];
    const agents = { network, send: limits, recv: limits };
    migration = await QemuMigration.prepare({ destination: { ram: 'files' }, agents });
    const { hosts } = migration;
    const cutWhileSending = async () => {
      const id = await hosts.begin(...SLOWLY);
      await until(async () => (await hosts.view(id)).pagesSent > 2000, 'pages are sent');
      network.cut();
      await until(async () => (await hosts.view(id)).waitsFor !== undefined, 'it is noticed');
      return id;
    };

    const cancelled = await cutWhileSending();
    await hosts.run(['cancel', cancelled]);
    expect(await hosts.ended(cancelled)).toMatchObject({ outcome: 'cancelled' });
    expect(await migration.verdict('source')).toMatchObject({ clean: true, bad: [] });
    network.join();
    await migration.mustHaveStayed(); // the destination has been told by now

    const id = await cutWhileSending();
    network.join();
    await until(async () => (await hosts.view(id)).waitsFor === undefined, 'it is back');
    await hosts.run(['set', id, '--bandwidth', 'none']);
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
    expect(await migration.verdict('destination')).toMatchObject({ clean: true, bad: [] });
  });
});
