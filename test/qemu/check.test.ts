import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CheckView } from '../../lib/migration/check/view.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { type Definition, QemuMigration, smallIdle } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

describe.skipIf(whyNoQemu())(titled('a check before the move of a QEMU guest'), () => {
  let migration: QemuMigration | undefined;
  let dir: string;
  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-hook-'));
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    await migration?.end();
    fs.rmSync(dir, { recursive: true });
  });

  const check = async () => {
    const { hosts } = migration!;
    const options = ['--max-suspend-time', '60s', '--json'];
    const { code, stdout, stderr } = await hosts.run(['check', 'vm1', hosts.target, ...options]);
    expect(stderr).toBe('');
    return { exit: code, ...(JSON.parse(stdout) as CheckView) };
  };
  const about = ({ findings }: CheckView, what: string) =>
    findings.find((finding) => finding.side === 'destination' && finding.about === what)!;

  test('looks at machine, memory, name and hooks there, and leaves both QEMUs alone', async () => {
    const hook = path.join(dir, 'hook');
    migration = await QemuMigration.prepare({
      source: smallIdle,
      destination: {
        ram: 'files',
        define: (definition: Definition) => ({
          ...definition,
          hooks: { postResume: { command: [hook] } },
        }),
      },
    });
    const { hosts, definition } = migration;
    const view = await check();
    expect(view).toMatchObject({ exit: 1, expected: 'refused' });
    const refusing = view.findings.filter(({ verdict }) => verdict === 'no');
    expect(refusing).toMatchObject([{ side: 'destination', about: 'hooks', code: 'hook-failed' }]);
    expect(about(view, 'machine').text).toMatch(/pc-|q35|microvm/);
    expect(about(view, 'command').verdict).toBe('ok');
    expect(about(view, 'ram-files').verdict).toBe('ok');
    expect(view.way!.bytes).toBeGreaterThan(0);
    expect(fs.existsSync(definition.qmp), 'no QEMU was started').toBe(false);
    for (const { file } of definition.ram) expect(fs.existsSync(file)).toBe(false);

    // What a check has found in the way is in the way.
    const move = () => hosts.migrate('--max-suspend-time', '20s');
    expect(await move()).toMatchObject({ exit: 1, code: 'hook-failed' });
    fs.writeFileSync(hook, '#!/bin/sh\n', { mode: 0o700 });
    const moved = await move();
    expect(moved, moved.message).toMatchObject({ exit: 0 });
    expect(await migration.verdict('destination')).toMatchObject({ clean: true });

    const kept = path.join(hosts.stateDirOf('source'), 'experiences.ndjson');
    const lessons = () => fs.readFileSync(kept, 'utf8').trim().split('\n');
    await expect.poll(lessons).toContainEqual(expect.stringContaining('"kind":"move"'));
    expect(lessons()).toContainEqual(expect.stringContaining('"kind":"forecast"'));
    const machines = new Set(lessons().map((line) => JSON.parse(line).deviceModel));
    expect(machines.size, 'what a move teaches is for checks as well').toBe(1);
  });
});
