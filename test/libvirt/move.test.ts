import { afterEach, describe, expect, test, vi } from 'vitest';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import { until } from '../e2e/daemon.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import { titled, whyNoLibvirt } from './libvirt-host.ts';
import { LibvirtMigration, type LibvirtMigrationOptions } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];
/** QEMU's user as distributions have it. */
const DISTRIBUTION = { user: 'libvirt-qemu' };
const FILE = "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>";
const MEMFD = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>";

describe.skipIf(whyNoLibvirt())(titled('a domain of libvirt'), () => {
  let migration!: LibvirtMigration;
  let prepared = false;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(prepared ? migration.log : '');
    if (prepared) await migration.end();
    prepared = false;
  });

  async function prepare(options?: LibvirtMigrationOptions): Promise<void> {
    migration = await LibvirtMigration.prepare(options);
    prepared = true;
  }

  async function moves(placement: string, ...options: string[]): Promise<string> {
    const ended = await migration.migrate(...GENEROUS, ...options);
    expect(ended, migration.log).toMatchObject({ exit: 0, outcome: 'completed' });
    await migration.mustHaveMoved();
    await migration.mustRunAt('destination');
    expect(migration.ledgerOf(ended.id)).toContain(`${placement} placement`);
    return ended.id;
  }

  async function profileOf(ms: number): Promise<GuestProfile> {
    const args = ['profile', 'vm1', '--for', `${ms}ms`, '--json'];
    const { code, stdout, stderr } = await migration.hosts.source.run(args);
    expect([code, stderr]).toEqual([0, '']);
    return JSON.parse(stdout);
  }

  test('is listed and profiled, and moves by way of a stream', async () => {
    await prepare({ host: DISTRIBUTION });
    const listed = await migration.hosts.source.run(['guests']);
    expect(listed.stdout).toMatch(/^vm1 +libvirt +128 MiB +runs$/m);
    const profile = await profileOf(3000);
    expect(profile).toMatchObject({ method: 'page-sampling', totalPages: 32_768 });
    expect(profile.workingSet.map(({ windowMs }) => windowMs)).toEqual([1000, 2000]);
    expect(profile.zeroShare).toBeUndefined(); // nobody but QEMU can read its memory
    // A guest that has had no time has changed none of the few pages that are looked at.
    const rate = async () => (await profileOf(3000)).dirtyRate;
    await expect.poll(rate, { timeout: 200_000 }).toBeGreaterThan(0);

    const stopped = migration.hosts.source.run(['profile', 'vm1', '--for', '60s']);
    const { source } = migration.libvirt;
    const measures = async () =>
      (await source.virsh('domstats', 'vm1', '--dirtyrate')).includes('calc_status=1');
    await until(measures, 'QEMU measures');
    await source.virsh('suspend', 'vm1');
    await source.virsh('resume', 'vm1');
    expect((await stopped).stderr).toContain('guest-stopped');
    await moves('stream');
  });

  test('moves into the file that it will have', async () => {
    await prepare({ host: DISTRIBUTION, shape: { backing: FILE } });
    await moves('direct', '--verify');
  });

  test('moves into a memfd, from libvirt 9.0 to 11.3', async () => {
    await prepare({
      libvirt: { source: '9.0', destination: '11.3' },
      qemu: '10.0',
      host: DISTRIBUTION,
      shape: { backing: MEMFD },
    });
    expect((await profileOf(1000)).zeroShare).toBeGreaterThan(0);
    const ledger = parseLedger(migration.ledgerOf(await moves('direct')), 'its ledger');
    const hosts = ledger.flatMap((record) => (record.type === 'host' ? [record.hypervisor] : []));
    expect(hosts).toEqual([
      expect.stringMatching(/^libvirt 9\.0\.\d+$/),
      expect.stringMatching(/^libvirt 11\.3\.\d+$/),
    ]);
  });
});
