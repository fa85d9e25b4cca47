import net from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { type Definition, QemuMigration, smallIdle } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];
/** That of `smallIdle`, as its command line has it. */
const MEMORY = '131064K';

/** Definitions of a destination that cannot take the guest, and the words that tell the operator why. */
function badDefinitions(good: Definition): (readonly [Definition | undefined, RegExp])[] {
  const { command, ram } = good;
  const replaced = (from: string, to: string) => ({
    ...good,
    command: command.map((word) => word.replaceAll(from, to)),
  });
  const inStream = { ram: [] };
  const named = (block: string) => ({ ram: ram.map(({ file }) => ({ block, file })) });
  const smp = (cpus: string) => command.map((word, i) => (command[i - 1] === '-smp' ? cpus : word));
  return [
    [undefined, /no definition of guest "vm1" in .*; there are none/],
    [{ ...good, command: ['/no/qemu', ...command.slice(1)] }, /cannot be started: .*ENOENT/],
    [replaced('-nodefaults', '-nodefault'), /exited with 1: .*-nodefault: invalid option/],
    [replaced('q35', 'q36'), /unsupported machine type: "?q36/],
    [replaced('q35', 'pc'), /Machine type received is 'pc-q35-10.0' and local is 'pc-i440fx-10.0'/],
    [replaced('VGA', 'virtio-rng-pci'), /Unknown ramblock ".*vga.vram", cannot accept migration/],
    [
      replaced('virtio-blk-pci,drive=disk', 'virtio-rng-pci'),
      /Unknown savevm section or instance '.*virtio-blk' 0/,
    ],
    [
      { ...good, command: [...command, '-cpu', 'qemu64,-cx16,-lahf-lm'] },
      /vm1.json: its CPU lacks what guest vm1 has .*: cx16, lahf-lm; give it the same -cpu/,
    ],
    [{ ...good, command: smp('2') }, /load of migration failed/],
    [replaced(MEMORY, '65528K'), /Size mismatch: pc.ram: 0x7ffe000 != 0x3ffe000/],
    [{ ...replaced(MEMORY, '262136K'), ...inStream }, /Size mismatch: pc.ram/],
    [{ ...replaced('pc.ram', 'a.ram'), ...inStream }, /Unknown ramblock "pc.ram"/],
    [{ ...good, ...named('a.ram') }, /"ram" has a file for RAM block "a.ram".* guest has pc.ram/],
    [replaced('share=on', 'share=off'), /memory backend "pc.ram" must have share=on/],
    [{ ...good, limits: { memory: '64MiB' } }, /vm1.json allows 64 MiB/],
  ];
}

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
    for (const [changed, words] of badDefinitions(definition)) {
      migration.define('destination', changed);
      const { code, stdout, stderr } = await hosts.run([
        'migrate',
        'vm1',
        hosts.target,
        ...GENEROUS,
      ]);
      expect([code, stderr]).toEqual([1, '']);
      expect(stdout).toMatch(words);
      expect(hosts.send.log).toMatch(words);
    }
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

    const id = await hosts.begin(
      ...GENEROUS,
      '--bandwidth',
      '2MB/s',
      '--suspend-bandwidth',
      '2MB/s',
      '--no-compression',
    );
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
    const id = await hosts.begin(
      ...GENEROUS,
      '--bandwidth',
      '2MB/s',
      '--suspend-bandwidth',
      '2MB/s',
      '--no-compression',
    );
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
