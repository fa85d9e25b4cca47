import net from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { type Definition, QemuMigration, smallIdle } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];

describe.skipIf(whyNoQemu())(titled('a QEMU guest stays and runs on'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  test('when its destination cannot take it, and the operator reads why, in QEMU’s own words', async () => {
    migration = await QemuMigration.prepare({
      source: { ...smallIdle, devices: ['vga', 'disk'] },
      destination: { ram: 'files' },
    });
    const { hosts, definition } = migration;
    const refused = async (define: ((command: string[]) => string[]) | Definition | undefined) => {
      const changed =
        typeof define === 'function'
          ? { ...definition, command: define([...definition.command]) }
          : define;
      migration.define('destination', changed);
      const view = await hosts.migrate(...GENEROUS);
      expect(view).toMatchObject({ exit: 1, outcome: 'failed' });
      expect(hosts.send.log).toContain(view.message!.slice(0, 60)); // in the log as well
      return `${view.code}: ${view.message}`;
    };
    const replace = (from: string, to: string) => (command: string[]) =>
      command.map((word) => word.replaceAll(from, to));
    const without = (device: string) => (command: string[]) =>
      command.filter((word, i) => word !== device && command[i + 1] !== device);

    expect(await refused(undefined)).toMatch(/^unknown-guest: .*no definition of guest "vm1"/);
    expect(await refused(replace('q35', 'q36'))).toMatch(/unsupported machine type.*q36/);
    expect(await refused(without('VGA'))).toMatch(/QEMU of guest vm1 .*(vga\.vram|VGA|ramblock)/i);
    expect(await refused(replace('virtio-blk-pci', 'virtio-scsi-pci'))).toMatch(
      /QEMU of guest vm1/,
    );
    expect(await refused(replace('-m', '-mm'))).toMatch(/-mm: invalid option/);
    const { ram, ...rest } = definition;
    const other = ram.map((file) => ({ ...file, block: 'no.ram' }));
    expect(await refused({ ...rest, ram: other })).toMatch(/RAM block "no\.ram".*pc\.ram/);
    await migration.mustHaveStayed();

    migration.define('destination', definition);
    expect(await hosts.migrate(...GENEROUS)).toMatchObject({ exit: 0 });
    await migration.mustHaveMoved();
  });

  test('when its monitor cannot be used, QEMU migrates already, or the destination’s QEMU is killed', async () => {
    migration = await QemuMigration.prepare({ source: smallIdle, destination: { ram: 'files' } });
    const { hosts, source } = migration;
    const { monitor } = source.site.host;
    const failed = async () => {
      const { code, stderr } = await hosts.run(['migrate', 'vm1', hosts.target]);
      expect(code).toBe(1);
      return stderr;
    };
    const nonsense = net.createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2\n'));
    await new Promise<void>((resolve) => nonsense.listen(`${monitor}.nonsense`, resolve));
    const at = (qmp: string) => migration.define('source', { hypervisor: 'qemu', qmp });
    at(`${monitor}.gone`);
    expect(await failed()).toMatch(/does not exist: is QEMU running\?/);
    at(`${monitor}.nonsense`);
    expect(await failed()).toMatch(/speaks no QMP: "SSH-2\.0/);
    nonsense.close();
    at(monitor);

    await source.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 1_000_000 });
    const elsewhere = `${monitor}.elsewhere`;
    const sink = net.createServer((socket) => socket.resume());
    await new Promise<void>((resolve) => sink.listen(elsewhere, resolve));
    await source.qmp.execute('migrate', { uri: `unix:${elsewhere}` });
    expect(await failed()).toMatch(/QEMU is migrating the guest already \(\w+\) \(guest-busy\)/);
    await source.qmp.execute('migrate_cancel');
    sink.close();

    const id = await hosts.begin(...GENEROUS, '--bandwidth', '2MB/s', '--no-compression');
    await until(async () => (await hosts.view(id)).pagesSent > 500, 'pages are sent');
    process.kill(migration.destinationQemu()!, 'SIGKILL');
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed', code: 'guest-died' });
    await migration.mustHaveStayed();
    expect(await hosts.migrate(...GENEROUS)).toMatchObject({ exit: 0 });
    await migration.mustHaveMoved();
  });

  test('nowhere, when its own QEMU is killed: the destination lets go of everything', async () => {
    migration = await QemuMigration.prepare({ source: smallIdle, destination: { ram: 'files' } });
    const { hosts, source } = migration;
    const id = await hosts.begin(...GENEROUS, '--bandwidth', '2MB/s', '--no-compression');
    await until(async () => (await hosts.view(id)).pagesSent > 500, 'pages are sent');
    source.process.kill('SIGKILL');
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed', code: 'guest-died' });
    await until(
      () => migration.destinationQemu() === undefined,
      'QEMU is gone from the destination',
    );
    hosts.mustLive();
  });
});
