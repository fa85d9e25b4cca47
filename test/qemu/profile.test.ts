import { afterEach, describe, expect, test, vi } from 'vitest';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, small } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

describe.skipIf(whyNoQemu())(titled('a QEMU guest'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  test('has its profile taken, is not moved meanwhile, and moves after an agent died of it', async () => {
    migration = await QemuMigration.prepare({ source: small, destination: { ram: 'files' } });
    const { hosts, source } = migration;
    const measuring = async () => {
      const { status } = await source.qmp.execute<{ status: string }>('query-dirty-rate');
      return status === 'measuring';
    };
    const first = await hosts.run(['profile', 'vm1', '--for', '2s', '--json']);
    expect([first.code, first.stderr]).toEqual([0, '']);
    const profile: GuestProfile = JSON.parse(first.stdout);
    expect(profile).toMatchObject({ guest: 'vm1', method: 'page-sampling' });
    expect(profile.workingSet).toHaveLength(4); // 100 ms to 800 ms
    expect(profile.zeroShare).toBeUndefined(); // its definition names no file

    const taking = hosts.run(['profile', 'vm1', '--for', '10m']);
    await until(measuring, 'QEMU measures');
    expect((await hosts.run(['guests'])).stdout).toMatch(
      /vm1 +qemu +- +its profile is being taken/,
    );
    const refused = await hosts.run(['migrate', 'vm1', hosts.target]);
    expect(refused.stderr).toContain('guest vm1 is being profiled (guest-busy)');
    await hosts.source.client('send').request('DELETE', '/guests/vm1/profile');
    expect((await taking).code).toBe(4);
    expect(await measuring()).toBe(false);

    const lost = hosts.run(['profile', 'vm1', '--for', '10m']);
    await until(measuring, 'QEMU measures');
    await hosts.send.end('SIGKILL');
    expect((await lost).code).toBe(6);
    await hosts.startSend();
    const moved = await hosts.migrate('--max-suspend-time', '20s');
    expect(moved).toMatchObject({ exit: 0, outcome: 'completed' });
    await migration.mustHaveMoved();
  });
});
