import assert from 'node:assert/strict';
import path from 'node:path';
import { afterEach, describe, test, vi } from 'vitest';
import { until } from '../../e2e/hosts.ts';
import { titled, whyNoQemu } from './installed.ts';
import { LinuxGuest, type LinuxGuestOptions, TEST_BOUND_MS } from './linux-guest.ts';
import { compareRamFiles } from './ram-files.ts';
import { fullCheck, switchoverGap, verdict } from './witness.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS });

/** What the other tests with QEMU rest on: without any agent, the witness finds a migration right. */
describe.skipIf(whyNoQemu())(titled('QEMU to QEMU without agents'), () => {
  const guests: LinuxGuest[] = [];

  async function start(options: LinuxGuestOptions): Promise<LinuxGuest> {
    const guest = await LinuxGuest.start(options);
    guests.push(guest);
    return guest;
  }

  afterEach(async () => {
    await Promise.all(guests.splice(0).map((guest) => guest.end()));
  });

  /** Leaves the guest stopped at its destination. */
  async function migrate(source: LinuxGuest, destination: LinuxGuest): Promise<void> {
    const uri = `unix:${path.join(path.dirname(destination.site.host.monitor), 'migration')}`;
    for (const { qmp } of [source, destination])
      await qmp.execute('migrate-set-capabilities', {
        capabilities: [{ capability: 'return-path', state: true }],
      });
    await destination.qmp.execute('migrate-incoming', { uri });
    await source.qmp.execute('migrate', { uri });
    await until(
      async () => {
        const { status } = await source.qmp.execute<{ status: string }>('query-migrate');
        assert(status !== 'failed', destination.log);
        return status === 'completed';
      },
      'the migration is complete',
      60_000,
    );
  }

  test('a busy guest with every device in RAM files: same bytes, clean verdict', async () => {
    const source = await start({
      ram: 'files',
      cpus: 2,
      nodes: 2,
      devices: ['disk', 'net', 'e1000e', 'vga'],
    });
    await source.booted();
    const destination = await start({ origin: source, ram: 'files' });
    await migrate(source, destination);
    source.site.host.ramFiles.forEach((file, node) => {
      assert.deepEqual(compareRamFiles(file, destination.site.host.ramFiles[node]!), []);
    });
    await mustContinue(source, destination);
  });

  test('a microvm in anonymous memory: clean verdict', async () => {
    const source = await start({ machine: 'microvm', devices: ['disk', 'net'] });
    await source.booted();
    const destination = await start({ origin: source });
    await migrate(source, destination);
    await mustContinue(source, destination);
  });

  test('two guests that run after a migration are told apart from one', async () => {
    const source = await start({});
    await source.booted();
    const destination = await start({ origin: source });
    await migrate(source, destination);
    for (const { qmp } of [destination, source]) await qmp.execute('cont');
    await fullCheck(destination.site);
    const { clean, bad } = verdict(source.site.console, destination.site.console);
    assert(!clean && bad.some((text) => text.includes('came after')), bad.join('\n'));
  });

  async function mustContinue(source: LinuxGuest, destination: LinuxGuest): Promise<void> {
    await destination.qmp.execute('cont');
    await fullCheck(destination.site);
    const consoles = [source.site.console, destination.site.console] as const;
    assert.deepEqual(verdict(...consoles).bad, []);
    const { from, to } = switchoverGap(...consoles);
    assert.equal(to.number, from.number + 1);
  }
});
