import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { idle } from './guest/workload.ts';
import { type Definition, QemuMigration } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

describe.skipIf(whyNoQemu())(titled('commands of the operator'), () => {
  let migration: QemuMigration | undefined;
  let dir: string;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    await migration?.end();
    fs.rmSync(dir, { recursive: true });
  });

  /** A hook that notes what it is told. */
  const noting = (moment: string) => ({
    command: [
      '/bin/sh',
      '-c',
      `echo "${moment} $GODWIT_GUEST $GODWIT_SIDE $GODWIT_MIGRATION $GODWIT_PEER" >> ${dir}/notes`,
    ],
  });
  const notes = () => {
    const file = path.join(dir, 'notes');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : [];
  };

  test('run on the side and at the moment that they are for; a failing preSuspend keeps the guest', async () => {
    dir = fs.mkdtempSync('/tmp/godwit-hooks-');
    const all = (definition: Definition) => ({
      ...definition,
      hooks: {
        preSuspend: noting('preSuspend'),
        postResume: noting('postResume'),
        postRelease: noting('postRelease'),
      },
    });
    migration = await QemuMigration.prepare({
      source: { workload: idle },
      destination: { ram: 'files', define: all },
    });
    const { hosts } = migration;
    const { spawnargs } = hosts.send.process;
    const file = `${spawnargs[spawnargs.indexOf('--definitions') + 1]}/vm1.json`;
    const define = (hooks: object) =>
      fs.writeFileSync(
        file,
        JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), hooks }),
      );

    define({ preSuspend: { command: ['/bin/sh', '-c', 'echo the storage is busy >&2; exit 7'] } });
    const kept = await hosts.migrate('--max-suspend-time', '20s');
    expect(kept).toMatchObject({ exit: 1, outcome: 'failed', code: 'hook-failed' });
    expect(kept.message).toMatch(/preSuspend of guest vm1 exited with 7: the storage is busy/);
    expect(notes()).toEqual([]);

    define(all({} as Definition).hooks);
    const moved = await hosts.migrate('--max-suspend-time', '20s');
    expect(moved).toMatchObject({ exit: 0 });
    await until(() => notes().length === 3, 'all hooks have run');
    const told = `${moved.id} ${hosts.target}`;
    expect(notes().filter((note) => note.includes('source'))).toEqual([
      `preSuspend vm1 source ${told}`,
      `postRelease vm1 source ${told}`,
    ]);
    expect(notes().find((note) => note.includes('destination'))).toMatch(
      `postResume vm1 destination ${moved.id} `,
    );
    expect(await migration.verdict('destination')).toMatchObject({ clean: true });
  });
});
