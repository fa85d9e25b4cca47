import { afterEach, describe, expect, test, vi } from 'vitest';
import type { QmpEvent } from '../../lib/guest/qemu/qmp.ts';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, small } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

/** As lib/ownership/fault.ts blocks, ms. */
const BLOCK_MS = 1500;

describe.skipIf(whyNoQemu())(titled('the limit of a QEMU guest'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  test("is kept while the source's main thread is blocked and the lanes are full", async () => {
    migration = await QemuMigration.prepare({
      source: small,
      destination: { ram: 'files' },
      agents: { faults: { send: 'block@source.after.suspend-guest' } },
    });
    const { hosts, source } = migration;
    const at = new Map<string, number>();
    const note = ({ event, timestamp }: QmpEvent) =>
      void at.set(event, timestamp.seconds * 1000 + timestamp.microseconds / 1000);
    for (const event of ['STOP', 'RESUME']) source.qmp.on(event, note);
    const id = await hosts.begin(
      ...[
        '--max-suspend-time',
        '400ms',
        '--bandwidth',
        '2MB/s',
        '--suspend-bandwidth',
        '2MB/s',
        '--no-compression',
      ],
    );
    await until(async () => (await hosts.view(id)).pagesSent > 500, 'pages are sent');
    await hosts.run(['cutover', id, '--force']);
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    // By QEMU's own clock.
    expect(at.get('RESUME')! - at.get('STOP')!).toBeLessThan(BLOCK_MS);
    await migration.mustHaveStayed();
    expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
    await migration.mustHaveMoved();
  });
});
