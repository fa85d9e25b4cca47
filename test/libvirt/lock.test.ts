import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import { titled, whyNoLibvirt } from './libvirt-host.ts';
import { LibvirtMigration } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const LIMITS = ['--peer-timeout', '2s', '--reconnect-timeout', '10s'];
const GENEROUS = ['--max-suspend-time', '20s'];

/** Somebody who does not know of the move, or does not wait for it. */
describe.skipIf(whyNoLibvirt())(titled('where libvirt locks disks'), () => {
  let shared: string;
  let migration: LibvirtMigration | undefined;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    await migration?.end();
    migration = undefined;
    fs.rmSync(shared, { recursive: true });
  });

  test('nobody makes the copy run that an agent has left paused, on either host', async () => {
    shared = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-libvirt-shared-'));
    const disk = path.join(shared, 'vm1.img');
    fs.writeFileSync(disk, '');
    fs.truncateSync(disk, 1 << 20);
    const devices = `<disk type='file'><driver name='qemu' type='raw' cache='none'/>
      <source file='${disk}'/><target dev='vda' bus='virtio'/></disk>`;
    migration = await LibvirtMigration.prepare({
      host: { shared },
      shape: { devices },
      agents: { send: LIMITS, recv: LIMITS },
    });
    const { hosts, libvirt } = migration;
    const { source, destination } = libvirt;

    await hosts.source.agent('send').end();
    await hosts.source.start('send', 'kill@source.before.journal-committed');
    await hosts.begin(...GENEROUS);
    await until(() => !hosts.send.alive, 'the source is gone before it commits', TEST_BOUND_MS);
    expect(await migration.state('destination')).toBe('paused');
    await source.virsh('resume', 'vm1'); // by hand: it is the guest, and still has its disk
    await expect(destination.virsh('resume', 'vm1')).rejects.toThrow(/lock/);
    await hosts.source.start('send');
    await migration.mustHaveStayed();
    await migration.mustHaveEnded();

    await hosts.source.agent('send').end();
    await hosts.source.start('send', 'kill@source.before.release-guest');
    await hosts.begin(...GENEROUS);
    await until(() => !hosts.send.alive, 'the source is gone after the commit', TEST_BOUND_MS);
    await migration.mustBeatAt('destination');
    await expect(source.virsh('resume', 'vm1')).rejects.toThrow(/lock/);
    await hosts.source.start('send');
    await migration.mustHaveMoved();
    await migration.mustHaveEnded();
  });
});
