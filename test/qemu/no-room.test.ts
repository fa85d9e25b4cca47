import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, smallIdle } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];
const why = process.getuid?.() === 0 ? whyNoQemu() : 'only root can mount a small file system';

describe.skipIf(why)(titled('a destination that has room for one QEMU guest'), () => {
  let ramDir: string;
  let migration: QemuMigration;
  beforeEach(() => {
    ramDir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-small-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', ramDir]);
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
    execFileSync('umount', ['--lazy', ramDir]); // QEMU's memory is freed a moment after its monitor
    fs.rmdirSync(ramDir);
  });

  test('takes none while others use it, nor when they take it meanwhile; then it does', async () => {
    migration = await QemuMigration.prepare({
      source: smallIdle,
      destination: { ram: 'files' },
      agents: { ramDir },
    });
    const { hosts, definition } = migration;
    const others = path.join(ramDir, 'others');
    const othersTake = (mib: number) => fs.writeFileSync(others, Buffer.alloc(mib << 20));

    othersTake(80);
    for (const ram of [definition.ram, []]) {
      migration.define('destination', { ...definition, ram });
      const view = await hosts.migrate(...GENEROUS);
      expect(view).toMatchObject({ exit: 1, code: 'memory-insufficient' });
    }
    fs.rmSync(others);
    await migration.mustHaveStayed();

    migration.define('destination', definition);
    const id = await hosts.begin(
      ...GENEROUS,
      '--bandwidth',
      '5MB/s',
      '--suspend-bandwidth',
      '5MB/s',
      '--no-compression',
    );
    await until(async () => (await hosts.view(id)).pagesSent > 500, 'pages are sent');
    expect(() => othersTake(160)).toThrow(/ENOSPC/);
    await hosts.run(['set', id, '--bandwidth', 'none']);
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'failed', code: 'ram-file-failed' });
    expect(ended.message).toContain('no memory left');
    fs.rmSync(others);
    await migration.mustHaveStayed();

    expect(await hosts.migrate(...GENEROUS)).toMatchObject({ exit: 0 });
    await migration.mustHaveMoved();
  });
});
