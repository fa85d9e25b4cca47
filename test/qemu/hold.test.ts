import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { LONG } from '../long.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, type QemuMigrationOptions, small, smallIdle } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const HELD_MS = 15_000;
const VERSIONS = [
  ['10.0', {}],
  ['7.2', LONG],
] as const;
/** A test of a hold is not one of how fast this machine is. */
const LIMIT = ['--max-suspend-time', '20s'];
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(whyNoQemu())(titled('a QEMU guest that is held'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  async function held(options: QemuMigrationOptions, paused = false) {
    migration = await QemuMigration.prepare(options);
    const { hosts } = migration;
    if (paused) await migration.source.qmp.execute('stop');
    let passes = 0;
    migration.source.qmp.on('MIGRATION_PASS', () => passes++);
    const id = await hosts.begin(...LIMIT, '--hold');
    await until(async () => (await hosts.view(id)).hold?.ready === true, 'it is ready and held');
    const before = passes;
    await sleep(HELD_MS);
    return { id, hosts, view: await hosts.view(id), passes: passes - before };
  }

  /** By its word alone QEMU 10.0 makes ten thousand passes a second, and 7.2 ends them by itself. */
  describe.each(VERSIONS)('of %s', (qemu, more) => {
    test('idle: runs on, in few passes, and is moved', more, async () => {
      const source = { ...smallIdle, qemu };
      const { id, hosts, view, passes } = await held({ source, destination: { qemu } });
      expect(view).toMatchObject({ phase: 'precopy', hold: { ready: true } });
      expect(view.estimate!.expected).toBeLessThan(20_000);
      expect(passes).toBeLessThan(HELD_MS / 100); // one in each of QEMU's windows, at the very most
      expect(await migration.status('source')).toBe('running');
      await hosts.run(['cutover', id]);
      const ended = await hosts.ended(id);
      expect(ended).toMatchObject({ outcome: 'completed' });
      expect(ended.suspension!.agentMs).toBeLessThan(20_000);
      await migration.mustHaveMoved();
    });

    test('paused: arrives paused', more, async () => {
      const source = { ...smallIdle, qemu };
      const { id, hosts } = await held({ source, destination: { qemu } }, true);
      expect((await hosts.view(id)).phase).toBe('precopy');
      await hosts.run(['cutover', id]);
      expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
      expect(await migration.status('destination')).toBe('paused');
    });
  });

  test('busy: stays ready, and a cancel leaves it where it is', async () => {
    const { id, hosts, view } = await held({ source: small });
    expect(view).toMatchObject({ phase: 'precopy', hold: { ready: true } });
    await hosts.run(['cancel', id]);
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled' });
    await migration.mustHaveStayed();
  });

  test('by a QEMU that ends the passes all the same: undone, the guest runs on', async () => {
    const source = { ...smallIdle, qemu: '7.2' } as const;
    const { id, hosts } = await held({ source, destination: { qemu: '7.2' } });
    const forced = { 'downtime-limit': 2_000_000 };
    await migration.source.qmp.execute('migrate-set-parameters', forced);
    expect(await hosts.ended(id)).toMatchObject({
      outcome: 'failed',
      code: 'hypervisor-failed',
      message: expect.stringContaining('begun the cutover by itself while the guest was held'),
    });
    await migration.mustHaveStayed();
  });
});
