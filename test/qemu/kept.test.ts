import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { MigrationView } from '../../lib/migration/view.ts';
import { runCommand } from '../e2e/daemon.ts';
import { type Side, until } from '../e2e/hosts.ts';
import { qemuProgram, titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { fullCheck, verdict } from './guest/witness.ts';
import { idle } from './guest/workload.ts';
import { endQemu, QemuMigration, smaller } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

/** It checks its memory and writes next to none: how long the machine takes is not what is counted. */
const WORKLOAD = smaller(idle);
/** How well pages compress is not what is counted. */
const MOVE = ['--max-suspend-time', '20s', '--no-compression'];

/** RAM files lie below it, on either side. */
const RAM_DIR = '/dev/shm';
const keptFiles = () =>
  fs.readdirSync(RAM_DIR).filter((name) => /^godwit-vm1-.*\.kept$/.test(name));

describe.skipIf(whyNoQemu())(titled('a QEMU guest that comes back'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await endQemu(migration.source.site.host.testMonitor);
    await migration.end();
    for (const file of keptFiles()) fs.rmSync(`${RAM_DIR}/${file}`);
  });

  test('sends what it has written since, in the RAM files that it had', async () => {
    migration = await QemuMigration.prepare({
      source: { memoryMiB: 128, nodes: 2, ram: 'files', workload: WORKLOAD },
      destination: { ram: 'files' },
      agents: { send: ['--keep-memory', '1h'] },
    });
    const { hosts, source, destination } = migration;
    const { host } = source.site;
    migration.define('source', {
      hypervisor: 'qemu',
      qmp: host.monitor,
      command: [qemuProgram('10.0'), ...source.site.arguments],
      ram: host.ramFiles.map((file, node) => ({ block: `ram-node${node}`, file })),
    });
    const away = await migration.migrate(...MOVE);
    expect(away).toMatchObject({ outcome: 'completed' });
    await migration.mustHaveMoved();
    expect(keptFiles()).toHaveLength(2);

    // Each host gets the agent that it did not need before.
    const socket = path.join(hosts.dir, 'back.sock');
    const options = (side: Side, name: string) => [
      ...['--definitions', migration.definitionsOf(side), '--ram-dir', RAM_DIR],
      ...['--state-dir', path.join(hosts.dir, `back-${name}`)],
    ];
    const other = ['--socket', path.join(hosts.dir, 'back-recv.sock')];
    await hosts.source.startRecv(undefined, [...options('source', 'recv'), ...other]);
    const sender = [...options('destination', 'send'), '--socket', socket];
    await hosts.destination.startSend(undefined, sender);
    const from = source.site.console.lines.length;
    const moveBack = ['migrate', 'vm1', hosts.source.target, ...MOVE, '--verify', '--json'];
    const { stdout } = await runCommand('agent-send', [...moveBack, '--socket', socket], hosts.dir);
    const back: MigrationView = JSON.parse(stdout.trim().split('\n').at(-1)!);
    expect(back).toMatchObject({ outcome: 'completed' });
    expect(back.wireBytes / away.wireBytes).toBeLessThanOrEqual(0.15);
    expect(keptFiles()).toEqual([]);
    await fullCheck(source.site);
    const said = verdict(destination.console, source.site.console);
    expect(said.bad.filter((text) => !text.startsWith('beat'))).toEqual([]);
    expect(source.site.console.lines.length).toBeGreaterThan(from);
    await until(
      () => migration.destinationQemu() === undefined,
      'QEMU is gone from the destination',
    );
  });
});
