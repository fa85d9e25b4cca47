import { afterEach, describe, expect, test, vi } from 'vitest';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, type QemuMigrationOptions } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];

describe.skipIf(whyNoQemu())(titled('a Linux guest moves between two QEMUs'), () => {
  let migration: QemuMigration | undefined;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    await migration?.end();
    migration = undefined;
  });
  const prepare = async (options: QemuMigrationOptions = {}) => {
    migration = await QemuMigration.prepare(options);
    return migration;
  };

  test.each(['files', 'anonymous'] as const)('into memory in %s', async (ram) => {
    const { hosts } = await prepare({ destination: { ram } });
    expect(await hosts.migrate(...GENEROUS)).toMatchObject({ exit: 0, outcome: 'completed' });
    expect(await migration!.verdict('destination')).toMatchObject({ clean: true, bad: [] });
    expect(migration!.source.alive).toBe(false);
  });
});
