import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { compareRamFiles } from './guest/ram-files.ts';
import { QemuMigration, small } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

describe.skipIf(whyNoQemu())(titled('a busy guest, while both its copies are paused'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    migration.hosts.recv.process.kill('SIGCONT');
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  /** In both placements QEMU's memory is a file here; without "ram" the agent does not know. */
  test.each(['direct', 'stream'] as const)(
    'has the same bytes on both sides: %s',
    async (placement) => {
      migration = await QemuMigration.prepare({
        source: { ...small, ram: 'files', nodes: 2, devices: ['disk', 'net'] },
        destination: {
          ram: 'files',
          define: (all) => (placement === 'direct' ? all : { ...all, ram: [] }),
        },
        // Committed, and the destination has not begun to run.
        agents: { faults: { recv: 'stop@destination.before.journal-running' } },
      });
      const { hosts, source, destination } = migration;
      // Chunks keep to their lanes, and batches to their order, however many are compressed at once.
      const ways = { direct: ['--lanes', '3', '--bandwidth', '40MB/s'], stream: ['--lanes', '1'] };
      const id = await hosts.begin('--max-suspend-time', '20s', ...ways[placement]);
      await until(async () => (await hosts.view(id)).phase === 'handover', 'it is committed');
      await until(() => hosts.recv.standsStill, 'the destination is about to run it');
      expect(await migration.status('destination')).toBe('paused');
      expect(await migration.status('source')).toBe('postmigrate');
      source.site.host.ramFiles.forEach((file, node) => {
        expect(compareRamFiles(file, destination.host.ramFiles[node]!)).toEqual([]);
      });
      hosts.recv.process.kill('SIGCONT');
      expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
      await migration.mustHaveMoved();
    },
  );
});
