import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import type { DomainShape } from './domain.ts';
import { titled, whyNoLibvirt } from './libvirt-host.ts';
import { LibvirtMigration } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];
const TARGET = "<target type='virtio' name='org.godwit.test'/></channel>";
const SLOWLY = ['--bandwidth', '2MB/s', '--no-compression'];

describe.skipIf(whyNoLibvirt())(titled('a move of a domain that does not go through'), () => {
  let migration: LibvirtMigration | undefined;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    await migration?.end();
    migration = undefined;
  });

  async function prepare(shape: Partial<DomainShape> = {}): Promise<LibvirtMigration> {
    migration = await LibvirtMigration.prepare({ shape });
    return migration;
  }

  async function moves(it: LibvirtMigration): Promise<void> {
    expect(await it.migrate(...GENEROUS)).toMatchObject({ exit: 0, outcome: 'completed' });
    await it.mustHaveMoved();
    await it.mustRunAt('destination');
  }

  /** Begins one and waits until pages are on their way. */
  async function underWay(it: LibvirtMigration, ...options: string[]): Promise<string> {
    const id = await it.hosts.begin(...GENEROUS, ...options);
    const sent = async () => (await it.hosts.view(id)).pagesSent > 200;
    await until(sent, 'pages are sent', TEST_BOUND_MS);
    return id;
  }

  /** Migrates slowly until the guest is suspended, and does that. */
  async function whileSuspended(it: LibvirtMigration, act: () => void, limit = '20s') {
    const { hosts } = it;
    const id = await underWay(it, ...SLOWLY, '--max-suspend-time', limit);
    await hosts.run(['cutover', id, '--force']);
    const suspended = async () => (await hosts.view(id)).phase !== 'precopy';
    await until(suspended, 'it is suspended', TEST_BOUND_MS);
    act();
    return hosts.ended(id);
  }

  test('is cancelled, or misses its limit: the guest runs on, and moves later, paused as it is', async () => {
    const it = await prepare();
    const { hosts } = it;
    const id = await underWay(it, ...SLOWLY);
    await hosts.run(['cancel', id]);
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled' });
    await it.mustHaveStayed();
    expect(await whileSuspended(it, () => {}, '400ms')).toMatchObject({
      outcome: 'aborted',
      code: 'suspension-limit',
    });
    await it.mustHaveStayed();
    await it.libvirt.source.virsh('suspend', 'vm1');
    expect(await it.migrate(...GENEROUS)).toMatchObject({ exit: 0, outcome: 'completed' });
    expect(await it.state('destination')).toBe('paused'); // as it was
    await it.libvirt.destination.virsh('resume', 'vm1');
    await it.mustRunAt('destination');
  });

  test('loses its destination QEMU, or a libvirtd: the guest runs on, and moves later', async () => {
    const it = await prepare();
    const { source, destination } = it.libvirt;
    const kill = () => process.kill(destination.qemu()!, 'SIGKILL');
    expect(await whileSuspended(it, kill)).toMatchObject({ outcome: 'failed' });
    await it.mustHaveStayed();
    for (const host of [destination, source]) {
      const id = await underWay(it, ...SLOWLY);
      await host.killLibvirtd();
      await host.startLibvirtd(); // without it nobody can say that the guest runs
      expect(await it.hosts.ended(id)).toMatchObject({ outcome: 'failed' });
      await it.mustHaveStayed();
    }
    await moves(it);
  });

  test('both libvirtds die once the copy is prepared: it moves all the same', async () => {
    const it = await prepare();
    const { hosts, libvirt } = it;
    await hosts.send.end();
    await hosts.startSend('stop@source.before.send-commit');
    const id = await hosts.begin(...GENEROUS);
    await until(() => hosts.send.standsStill, 'the agent stands still', TEST_BOUND_MS);
    for (const host of [libvirt.source, libvirt.destination]) await host.killLibvirtd();
    hosts.send.process.kill('SIGCONT');
    for (const host of [libvirt.source, libvirt.destination]) await host.startLibvirtd();
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
    await it.mustHaveMoved();
  });

  test('is of a domain that may not be there: it is refused before a page is sent', async () => {
    const devices = "<channel type='unix'><source mode='bind' path='/run/other'/></channel>";
    const it = await prepare({ devices: devices.replace('</channel>', TARGET) });
    const ended = await it.migrate(...GENEROUS);
    expect(ended).toMatchObject({ outcome: 'failed', code: 'definition-invalid', pagesSent: 0 });
    expect(ended.message).toContain('<channel> has "/run/other", which is not allowed here');
    await it.mustHaveStayed();
  });
});
