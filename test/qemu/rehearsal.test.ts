import { isDeepStrictEqual } from 'node:util';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import type { CheckView } from '../../lib/migration/check/view.ts';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, setCapability, small, smallIdle } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

/** That a busy guest rewrites. */
const CHECKED_PAGES = (small.workload.checkedMiB << 20) / PAGE_SIZE;
/** No move here is about its suspension. */
const GENEROUS = ['--max-suspend-time', '20s'];

describe.skipIf(whyNoQemu())(titled('the move of a QEMU guest'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  /** Of QEMU, for the test's own monitor: what a migration changes, and whether one is under way. */
  const settings = async () => {
    const { qmp } = migration.source;
    const capabilities = await qmp.execute('query-migrate-capabilities');
    return { capabilities, parameters: await qmp.execute('query-migrate-parameters') };
  };
  const status = async () =>
    (await migration.source.qmp.execute<{ status?: string }>('query-migrate')).status;
  const isActive = async () => (await status()) === 'active';
  const begin = () => migration.hosts.run(['profile', 'vm1', '--rehearse', '--for', '10m']);
  const rehearse = async (...options: string[]): Promise<GuestProfile> => {
    const { hosts } = migration;
    const taken = await hosts.run(['profile', 'vm1', '--rehearse', '--json', ...options]);
    expect([taken.code, taken.stderr]).toEqual([0, '']);
    return JSON.parse(taken.stdout);
  };

  test('is rehearsed while it runs on, also after an agent died of it, and then it moves', async () => {
    migration = await QemuMigration.prepare({ source: small, destination: { ram: 'files' } });
    const { hosts, source } = migration;
    let stops = 0;
    source.qmp.on('STOP', () => {
      stops++;
    });
    await source.qmp.execute('migrate-set-parameters', {
      'downtime-limit': 123,
      'max-bandwidth': 45_000_000,
    });
    for (const capability of ['xbzrle', 'auto-converge'])
      await setCapability(source.qmp, capability, true);
    const before = await settings();

    const profile = await rehearse('--for', '10s');
    expect(profile).toMatchObject({ guest: 'vm1', method: 'rehearsal' });
    expect(profile.workingSet.length).toBeGreaterThan(1);
    expect(profile.workingSet.at(-1)!.pages).toBeGreaterThan(CHECKED_PAGES / 8);
    expect(profile.zeroShare).toBeGreaterThan(0);
    expect(profile.compressedShare).toBeLessThan(1);
    expect([await status(), await settings()]).toEqual(['cancelled', before]);
    const checked = await hosts.run(['check', 'vm1', hosts.target, '--json', ...GENEROUS]);
    const { findings }: CheckView = JSON.parse(checked.stdout);
    expect(findings.find(({ about }) => about === 'profile')!.text).toMatch(/^rehearsed /);

    // The cap is kept: the first pass is not over in time.
    const capped = ['profile', 'vm1', '--rehearse', '--for', '1s', '--bandwidth', '1MB/s'];
    expect((await hosts.run(capped)).stderr).toMatch(/1\.00 s are too short for a rehearsal/);
    expect([await status(), await settings()]).toEqual(['cancelled', before]);

    const ended = begin();
    await until(isActive, 'QEMU migrates');
    const throttled = { capability: 'auto-converge', state: true };
    expect((await settings()).capabilities).not.toContainEqual(throttled);
    const refused = await hosts.run(['migrate', 'vm1', hosts.target]);
    expect(refused.stderr).toContain('guest vm1 is being profiled (guest-busy)');
    await hosts.source.client('send').request('DELETE', '/guests/vm1/profile');
    expect((await ended).code).toBe(4);
    expect([await status(), await settings()]).toEqual(['cancelled', before]);

    const lost = begin();
    await until(isActive, 'QEMU migrates');
    await hosts.send.end('SIGKILL');
    expect((await lost).code).toBe(6);
    await until(async () => (await status()) === 'failed', 'QEMU has given its migration up');
    expect(await settings()).not.toEqual(before);
    await hosts.startSend();
    await until(async () => isDeepStrictEqual(await settings(), before), 'QEMU is set as before');
    expect((await rehearse()).workingSet.length).toBeGreaterThan(1);
    expect(stops).toBe(0);
    expect(await migration.status('source')).toBe('running');

    const moved = await hosts.migrate(...GENEROUS);
    expect(moved).toMatchObject({ exit: 0, outcome: 'completed' });
    expect(moved.foretold!.basis).toMatch(/ as in its rehearsal, /);
    await migration.mustHaveMoved();
  });

  test('ends when the guest is stopped, which it stays', async () => {
    migration = await QemuMigration.prepare({ source: smallIdle });
    const { source } = migration;
    const before = await settings();
    const { workingSet } = await rehearse();
    expect(workingSet.at(-1)!.pages).toBeLessThan(CHECKED_PAGES);
    const stopped = begin();
    await until(isActive, 'QEMU migrates');
    await source.qmp.execute('stop');
    expect((await stopped).stderr).toContain('was stopped while its profile was taken');
    expect(await migration.status('source')).toBe('paused');
    expect(await settings()).toEqual(before);
    const refused = await begin();
    expect(refused.stderr).toContain('(guest-not-running)');
    await source.qmp.execute('cont');
    expect((await rehearse()).method).toBe('rehearsal');
    await migration.mustRunAt('source');
  });

  test('is not rehearsed by a QEMU that would suspend it', async () => {
    migration = await QemuMigration.prepare({ source: { ...smallIdle, qemu: '7.2' } });
    const before = await settings();
    const { code, stderr } = await begin();
    expect(code).toBe(1);
    expect(stderr).toMatch(/cannot be rehearsed: its QEMU 7\.2.* may suspend it/);
    expect([await status(), await settings()]).toEqual([undefined, before]);
    expect(await migration.status('source')).toBe('running');
  });
});
