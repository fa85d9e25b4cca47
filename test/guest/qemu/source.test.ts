import { afterEach, describe, expect, test, vi } from 'vitest';
import type { PushingGuest } from '../../../lib/guest/guest.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { connectQemuSource } from '../../../lib/guest/qemu/source.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';
import { ChunkRingReader, newRing } from '../../../lib/pages/chunk-ring.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { type QemuVersion, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import { LinuxGuest, type LinuxGuestOptions, TEST_BOUND_MS } from '../../qemu/guest/linux-guest.ts';
import { fullCheck, verdict } from '../../qemu/guest/witness.ts';
import { idle } from '../../qemu/guest/workload.ts';
import { bytesOf, spoolFor } from '../states.ts';

const crew = crewOfTest();

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const versions: readonly QemuVersion[] = ['10.0', '7.2'];

/** Takes everything out of the rings, as workers do, and counts the chunks of each. */
function drain(rings: readonly SharedArrayBuffer[]) {
  const taken = rings.map(() => 0);
  for (const [i, ring] of rings.entries()) {
    const reader = new ChunkRingReader(ring);
    void (async () => {
      for (;;) {
        await reader.take();
        reader.free(++taken[i]!);
      }
    })();
  }
  return taken;
}

describe.skipIf(whyNoQemu())(titled('a source QEMU'), () => {
  let linux: LinuxGuest | undefined;
  let guest: PushingGuest | undefined;
  afterEach(async () => {
    guest?.close();
    guest = undefined;
    await linux?.end();
    linux = undefined;
  });

  const definitionOf = ({ site }: LinuxGuest): GuestDefinition => ({
    ...{ name: 'vm1', file: '', hypervisor: 'qemu', qmp: site.host.monitor },
    ...{ ram: [], hooks: {}, limits: {} },
  });
  const boot = async (options: LinuxGuestOptions) => {
    linux = await LinuxGuest.start(options);
    await linux.booted();
    return linux;
  };
  const connect = async () => {
    guest = await connectQemuSource(definitionOf(linux!), crew);
    return guest;
  };
  const status = async () => (await linux!.qmp.execute<{ status: string }>('query-status')).status;

  test.each(versions)(
    'of %s pushes its passes, stops when it is told, and runs on when it is not sealed',
    async (qemu) => {
      await boot({ qemu });
      const before = await linux!.qmp.execute('query-migrate-capabilities');
      const source = await connect();
      const { regions, deviceModel } = source.description;
      expect(regions[0]).toMatchObject({ firstPfn: 0, pages: 65534 });
      expect(deviceModel).toMatch(/^qemu-stream-3,machine=pc-q35-/);
      const { pfnEnd } = new PageSet(regions.at(-1)!.firstPfn + regions.at(-1)!.pages);
      const rings = [0, 1].map(() => newRing(4, 0n));
      const taken = drain(rings);
      const spool = await spoolFor(source);
      await source.startPushing(rings);
      await until(() => source.pass.number >= 2, 'the second pass begins');
      const first = await source.publish(1);
      await until(() => taken.every((chunks, i) => chunks >= first.chunks[i]!), 'all is taken');
      const pages = regions.reduce((sum, region) => sum + region.pages, 0);
      expect(first.pages.pfnEnd).toBe(pfnEnd);
      expect(first.pages.count()).toBeGreaterThan(pages / 2);

      await source.hold(); // which suspension ends
      await source.suspend();
      expect(await status()).toBe('finish-migrate');
      await source.pushedAll();
      const bytes = await source.saveDeviceState();
      expect(bytes).toBeGreaterThan(10_000);
      expect(bytesOf(spool)).toHaveLength(bytes);
      await source.resume();
      expect(await status()).toBe('running');
      await source.stopPushing();
      expect(await linux!.qmp.execute('query-migrate-capabilities')).toEqual(before);
      await fullCheck(linux!.site);
      expect(verdict(linux!.site.console)).toMatchObject({ clean: true, bad: [] });
    },
  );

  test('once it is sealed it stays suspended when the agent goes, and runs when it is resumed', async () => {
    await boot({ workload: idle });
    const source = await connect();
    const rings = [newRing(4, 0n)];
    drain(rings);
    await spoolFor(source);
    await source.startPushing(rings);
    await source.suspend();
    await source.saveDeviceState();
    await source.seal();
    expect(await status()).toBe('postmigrate');
    await source.resume();
    expect(await status()).toBe('running');
    source.close();
    await fullCheck(linux!.site);
    expect(verdict(linux!.site.console)).toMatchObject({ clean: true, bad: [] });

    const again = await connect();
    const fresh = [newRing(4, 0n)];
    drain(fresh);
    await spoolFor(again);
    await again.startPushing(fresh);
    await again.suspend();
    again.close(); // as when the agent dies
    await until(async () => (await status()) === 'running', 'QEMU resumes the guest by itself');
  });

  test('that cannot be carried is refused by name', async () => {
    await boot({ workload: idle });
    const set = (capability: string, state: boolean) =>
      linux!.qmp.execute('migrate-set-capabilities', { capabilities: [{ capability, state }] });
    await set('mapped-ram', true);
    await expect(connect()).rejects.toThrow(/mapped-ram files, which Godwit cannot carry/);
    await set('mapped-ram', false);
    await linux!.qmp.execute('migrate-set-parameters', { 'tls-creds': 'tls0' });
    await expect(connect()).rejects.toThrow(/set up for TLS/);
    await linux!.qmp.execute('migrate-set-parameters', { 'tls-creds': '' });
    (await connect()).close();
  });
});
