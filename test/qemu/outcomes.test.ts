import { afterEach, describe, expect, test, vi } from 'vitest';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, setCapability, small } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];
/** Of the small guest: 128 MiB. */
const MEMORY_PAGES = (128 << 20) / PAGE_SIZE;
const SLOWLY = ['--bandwidth', '2MB/s', '--suspend-bandwidth', '2MB/s', '--no-compression'];

describe.skipIf(whyNoQemu())(titled('a QEMU guest'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  test('that cannot converge is left alone, and moves when finishing matters more', async () => {
    const workload = { ...small.workload, dirtyPagesPerSecond: 8000 };
    migration = await QemuMigration.prepare({
      source: { ...small, workload },
      destination: { ram: 'files' },
    });
    const { hosts } = migration;
    const slow = [
      '--max-suspend-time',
      '300ms',
      '--bandwidth',
      '20MB/s',
      '--suspend-bandwidth',
      '20MB/s',
      '--no-compression',
    ];
    const aborted = await hosts.migrate(...slow, '--timeout', '8s');
    expect(aborted).toMatchObject({ exit: 3, outcome: 'aborted', code: 'policy-abort' });
    await migration.mustHaveStayed();

    const moved = await hosts.migrate(...slow, '--timeout', '6s', '--prefer', 'completion');
    expect(moved).toMatchObject({ exit: 0, outcome: 'completed' });
    await migration.mustHaveMoved();
  });

  test('that is cancelled in each phase, and whose deadline passes, runs on and then moves', async () => {
    migration = await QemuMigration.prepare({ source: small, destination: { ram: 'files' } });
    const { hosts, source } = migration;

    const guests = async () => (await hosts.run(['guests'])).stdout;
    expect(await guests()).toMatch(/vm1 +qemu +128 MiB +runs/);
    await setCapability(source.qmp, 'xbzrle', true);
    const settings = () =>
      Promise.all(
        ['capabilities', 'parameters'].map((what) => source.qmp.execute(`query-migrate-${what}`)),
      );
    const before = await settings();

    const early = await hosts.begin(...GENEROUS, ...SLOWLY);
    await until(async () => (await hosts.view(early)).pagesSent > 500, 'pages are sent');
    await hosts.run(['cancel', early]);
    expect(await hosts.ended(early)).toMatchObject({ outcome: 'cancelled' });
    await migration.mustHaveStayed();
    expect(await settings()).toEqual(before);

    const inStop = await hosts.begin(...GENEROUS, ...SLOWLY);
    await until(async () => (await hosts.view(inStop)).pagesSent > 500, 'pages are sent');
    await hosts.run(['cutover', inStop, '--force']);
    await until(
      async () => (await hosts.view(inStop)).phase === 'stop-and-copy',
      'it is suspended',
    );
    await hosts.run(['cancel', inStop]);
    expect(await hosts.ended(inStop)).toMatchObject({ outcome: 'cancelled' });
    await migration.mustHaveStayed();

    const events: string[] = [];
    for (const event of ['STOP', 'RESUME']) source.qmp.on(event, () => events.push(event));
    const late = await hosts.begin('--max-suspend-time', '1s', ...SLOWLY);
    await until(async () => (await hosts.view(late)).pagesSent > 500, 'pages are sent');
    await hosts.run(['cutover', late, '--force']);
    const ended = await hosts.ended(late);
    expect(ended).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    await migration.mustHaveStayed();
    // It was suspended once, and resumed by the deadline: most of its memory was still to be sent.
    expect(events).toEqual(['STOP', 'RESUME']);
    expect(ended.pagesSent).toBeLessThan(MEMORY_PAGES / 2);
    expect(hosts.send.log).not.toContain('not resumed');

    const last = await hosts.begin(...GENEROUS, ...SLOWLY);
    await until(async () => (await hosts.view(last)).pagesSent > 500, 'pages are sent');
    expect(await guests()).toMatch(/vm1 +qemu +- +migrating/);
    const { stderr } = await hosts.run(['migrate', 'vm1', hosts.target]);
    expect(stderr).toMatch(/guest vm1 is being migrated already.*\(guest-busy\)/);
    await hosts.run(['set', last, '--bandwidth', 'none']);
    expect(await hosts.ended(last)).toMatchObject({ outcome: 'completed' });
    await migration.mustHaveMoved();
    const report = await hosts.run(['report', early]);
    expect(report).toMatchObject({ code: 0 });
  });
});
