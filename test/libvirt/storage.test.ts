import fs from 'node:fs';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { parseLedger } from '../../lib/report/ledger.ts';
import { type Side, until } from '../e2e/hosts.ts';
import { twoNamespaces } from '../e2e/namespaces.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import { type LibvirtHost, titled, whyNoLibvirt } from './libvirt-host.ts';
import { LocalDisk } from './local-disk.ts';
import { LibvirtMigration, type LibvirtMigrationOptions } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const MiB = 1 << 20;
const GENEROUS = ['--max-suspend-time', '20s'];
const ALL = [...GENEROUS, '--copy-storage-all'];
const SLOWLY = ['--bandwidth', '2MB/s'];
/** Not so fast that a suspension could bring all of it over. */
const STEADILY = ['--bandwidth', '6MB/s', '--no-compression'];
const ALLOWED = ['--libvirt-allow-path', LocalDisk.dir];
const LIMITS = ['--peer-timeout', '2s', '--reconnect-timeout', '10s'];

describe.skipIf(whyNoLibvirt())(titled('a domain whose disks its hosts do not share'), () => {
  let migration: LibvirtMigration | undefined;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration?.log ?? '');
    await migration?.end();
    migration = undefined;
  });

  async function prepare(
    format: 'raw' | 'qcow2',
    before: (source: LibvirtHost, destination: LibvirtHost) => void,
    options: LibvirtMigrationOptions = {},
  ): Promise<LibvirtMigration> {
    migration = await LibvirtMigration.prepare({
      shape: { devices: new LocalDisk(format).xml },
      agents: { recv: ALLOWED },
      before: (hosts) => before(hosts.source, hosts.destination),
      ...options,
    });
    return migration;
  }

  /** As the source's, with nothing else beside it. */
  function mustBeAt({ libvirt }: LibvirtMigration, side: Side, files: readonly string[]): void {
    expect(LocalDisk.filesAt(libvirt[side])).toEqual(files);
  }

  async function mustHaveNone(it: LibvirtMigration): Promise<void> {
    const gone = () => LocalDisk.filesAt(it.libvirt.destination).length === 0;
    await until(gone, `its images are gone\n${it.log}`, TEST_BOUND_MS);
  }

  /** Begins one slowly, and waits until its disks are on their way. */
  async function mirroring(it: LibvirtMigration): Promise<string> {
    const id = await it.hosts.begin(...ALL, ...SLOWLY);
    const some = async () => {
      const { diskBytes, outcome, message } = await it.hosts.view(id);
      expect(outcome, message).toBeUndefined();
      return diskBytes > 3 * MiB;
    };
    await until(some, 'disks are copied', TEST_BOUND_MS);
    return id;
  }

  test('is copied whole, into an image that is made for it; before that nothing is left of a move that ends', async () => {
    const it = await prepare('raw', (source, destination) => {
      LocalDisk.makeRaw(LocalDisk.at(source), LocalDisk.bytes, 24 * MiB);
      LocalDisk.at(destination);
    });
    const { hosts, libvirt } = it;
    const { stdout } = await hosts.run(['check', 'vm1', hosts.destination.target, ...ALL]);
    const [, found] =
      /vm1 runs, 128 MiB, libvirt; ([\d.]+) MiB of its disks would go with it/.exec(stdout) ?? [];
    expect(Number(found), stdout).toBeGreaterThanOrEqual(24);
    const startedMs = performance.now();
    const cancelled = await mirroring(it);
    const seconds = (performance.now() - startedMs) / 1000;
    const { diskBytes, disks } = await hosts.view(cancelled);
    expect(diskBytes).toBeLessThan((seconds + 1) * 2e6);
    expect(disks).toMatchObject({ names: ['vda'] });
    expect(disks!.copied).toBeLessThan(disks!.total);
    mustBeAt(it, 'destination', ['vm1.img', expect.stringMatching(/^vm1\.img\.godwit-/)]);
    await hosts.run(['cancel', cancelled]);
    expect(await hosts.ended(cancelled)).toMatchObject({ outcome: 'cancelled' });
    await it.mustHaveStayed();
    await mustHaveNone(it);

    const late = await it.hosts.begin(...ALL, '--max-suspend-time', '400ms', ...STEADILY);
    const inRounds = async () => (await hosts.view(late)).pagesSent > 200;
    await until(inRounds, `its memory is sent\n${it.log}`, TEST_BOUND_MS);
    await hosts.run(['cutover', late, '--force']);
    expect(await hosts.ended(late)).toMatchObject({
      ...{ outcome: 'aborted', code: 'suspension-limit' },
    });
    await it.mustHaveStayed();
    await mustHaveNone(it);

    const ended = await it.migrate(...ALL);
    expect(ended, it.log).toMatchObject({ exit: 0, outcome: 'completed' });
    expect(ended.diskBytes).toBeGreaterThan(24 * MiB);
    await it.mustHaveMoved();
    await it.mustRunAt('destination');
    await it.mustHaveEnded();
    mustBeAt(it, 'destination', ['vm1.img']);
    const end = LocalDisk.bytes - 24 * MiB;
    const filled = (side: Side) => fs.readFileSync(LocalDisk.at(libvirt[side])).subarray(end);
    expect(filled('destination').equals(filled('source'))).toBe(true);
    const records = parseLedger(it.ledgerOf(ended.id), 'its ledger');
    const copied = records.flatMap((record) => (record.type === 'disks' ? record.names : []));
    expect(copied).toEqual(['vda']);
  });

  test('leaves out what is below its image, from libvirt 9.0 to 11.3', async () => {
    const it = await prepare(
      'qcow2',
      (source, destination) => {
        LocalDisk.makeOverlay(LocalDisk.at(source));
        LocalDisk.makeRaw(LocalDisk.at(source, LocalDisk.base), LocalDisk.bytes, 24 * MiB);
        LocalDisk.at(destination);
      },
      { libvirt: { source: '9.0', destination: '11.3' } },
    );
    const { destination } = it.libvirt;
    const inc = [...GENEROUS, '--copy-storage-inc'];
    const refused = await it.migrate(...inc);
    expect(refused, it.log).toMatchObject({ outcome: 'failed', code: 'definition-invalid' });
    expect(refused.message).toContain('--copy-storage-inc needs it there');
    await it.mustHaveStayed();
    LocalDisk.makeRaw(LocalDisk.at(destination, LocalDisk.base), LocalDisk.bytes, 24 * MiB);
    LocalDisk.makeOverlay(LocalDisk.at(destination));
    const ended = await it.migrate(...inc);
    expect(ended, it.log).toMatchObject({ exit: 0, outcome: 'completed' });
    // What is on the wire grows with what the guest writes meanwhile; its image has that once.
    const { blocks } = fs.statSync(LocalDisk.at(destination));
    expect(blocks * 512).toBeLessThan(24 * MiB);
    await it.mustHaveMoved();
    await it.mustRunAt('destination');
    await it.mustHaveEnded();
    mustBeAt(it, 'destination', ['base.img', 'vm1.img']);
  });

  test('whose agent is killed while they are copied: it runs on, and what was made for it is gone', async () => {
    const it = await prepare(
      'raw',
      (source, destination) => {
        LocalDisk.makeRaw(LocalDisk.at(source), LocalDisk.bytes, 24 * MiB);
        LocalDisk.at(destination);
      },
      { agents: { send: LIMITS, recv: [...LIMITS, ...ALLOWED] } },
    );
    const { hosts, libvirt } = it;
    for (const side of ['source', 'destination'] as const) {
      const role = side === 'source' ? 'send' : 'recv';
      const host = hosts.at(side);
      await mirroring(it);
      process.kill(host.agent(role).process.pid!, 'SIGKILL');
      await until(() => !host.agent(role).alive, 'it is gone');
      await host.start(role);
      await it.mustHaveStayed();
      await mustHaveNone(it);
      await it.mustHaveEnded();
    }
    const image = LocalDisk.at(libvirt.destination);
    LocalDisk.makeRaw(image, LocalDisk.bytes / 2);
    const refused = await it.migrate(...ALL);
    expect(refused, it.log).toMatchObject({ outcome: 'failed', code: 'definition-invalid' });
    expect(refused.message).toContain(`${LocalDisk.path}: is there already and has 32 MiB`);
    await it.mustHaveStayed();
    LocalDisk.makeRaw(image);
    const id = await mirroring(it);
    process.kill(libvirt.destination.qemu()!, 'SIGKILL');
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed' });
    await it.mustHaveStayed();
    mustBeAt(it, 'destination', ['vm1.img']); // it was there before
    const ended = await it.migrate(...ALL);
    expect(ended, it.log).toMatchObject({ exit: 0, outcome: 'completed' });
    await it.mustRunAt('destination');
  });

  test('of which there are two: a disk that is full, libvirts that die and a link that is lost cost no more than a move', async () => {
    const lost = twoNamespaces();
    onTestFinished(() => lost.close());
    const disk = new LocalDisk('raw');
    const it = await prepare(
      'raw',
      (source, destination) => {
        LocalDisk.makeRaw(LocalDisk.at(source));
        LocalDisk.makeRaw(LocalDisk.at(source, LocalDisk.second), LocalDisk.bytes, 24 * MiB);
        LocalDisk.at(destination);
      },
      {
        shape: { devices: disk.twoXml },
        network: lost,
        agents: { send: LIMITS, recv: [...LIMITS, ...ALLOWED] },
      },
    );
    const { hosts, libvirt } = it;
    await LocalDisk.confine(libvirt.destination, 12 * MiB);
    const full = await it.migrate(...ALL);
    expect(full, it.log).toMatchObject({ outcome: 'failed' });
    expect(full.message).toMatch(/No space left on device/);
    await it.mustHaveStayed();
    expect(await libvirt.destination.run('ls', LocalDisk.dir)).toBe('');
    await LocalDisk.free(libvirt.destination);

    for (const side of ['source', 'destination'] as const) {
      const id = await mirroring(it);
      await libvirt[side].killLibvirtd();
      await libvirt[side].startLibvirtd();
      expect(await hosts.ended(id), it.log).toMatchObject({ outcome: 'failed' });
      await it.mustHaveStayed();
      await mustHaveNone(it);
      await it.mustHaveEnded();
    }

    const given = await mirroring(it);
    lost.cut();
    expect(await hosts.ended(given), it.log).toMatchObject({ outcome: 'failed' });
    lost.join();
    await it.mustHaveStayed();
    await mustHaveNone(it);
    await it.mustHaveEnded();

    const id = await mirroring(it);
    lost.cut();
    const waits = async () => (await hosts.view(id)).waitsFor;
    await until(async () => (await waits()) !== undefined, 'it is noticed');
    lost.join();
    await until(async () => (await waits()) === undefined, 'it is back');
    await hosts.run(['set', id, '--bandwidth', 'none']);
    expect(await hosts.ended(id), it.log).toMatchObject({ outcome: 'completed' });
    await it.mustHaveMoved();
    await it.mustRunAt('destination');
    await it.mustHaveEnded();
    mustBeAt(it, 'destination', ['vm1-data.img', 'vm1.img']);
    const data = (side: Side) => fs.readFileSync(LocalDisk.at(libvirt[side], LocalDisk.second));
    expect(data('destination').equals(data('source'))).toBe(true);
  });

  test.for([
    ['source.after.seal-guest', 'stayed'],
    ['source.after.journal-committed', 'moved'],
    ['destination.before.journal-running', 'moved'],
  ] as const)(
    'whose agent is killed at %s: it runs on its own image, once',
    async ([place, outcome]) => {
      const it = await prepare(
        'raw',
        (source, destination) => {
          LocalDisk.makeRaw(LocalDisk.at(source), LocalDisk.bytes, MiB);
          LocalDisk.at(destination);
        },
        { agents: { send: LIMITS, recv: [...LIMITS, ...ALLOWED] } },
      );
      const { hosts } = it;
      const isSource = place.startsWith('source');
      const role = isSource ? 'send' : 'recv';
      const host = hosts.at(isSource ? 'source' : 'destination');
      await host.agent(role).end();
      await host.start(role, `kill@${place}`);
      await hosts.begin(...ALL);
      await until(() => !host.agent(role).alive, `it is killed\n${it.log}`, TEST_BOUND_MS);
      await host.start(role);
      if (outcome === 'stayed') {
        await it.mustHaveStayed();
        await mustHaveNone(it);
        const ended = await it.migrate(...ALL);
        expect(ended, it.log).toMatchObject({ exit: 0, outcome: 'completed' });
      }
      await it.mustHaveMoved();
      await it.mustRunAt('destination');
      await it.mustHaveEnded();
      mustBeAt(it, 'destination', ['vm1.img']);
    },
  );

  test('may have no image where nothing is allowed', async () => {
    const it = await prepare(
      'raw',
      (source, destination) => {
        LocalDisk.makeRaw(LocalDisk.at(source));
        LocalDisk.at(destination);
      },
      { agents: {} },
    );
    const refused = await it.migrate(...ALL);
    expect(refused, it.log).toMatchObject({ outcome: 'failed', code: 'definition-invalid' });
    expect(refused.message).toContain('--libvirt-allow-path');
    await it.mustHaveStayed();
    await mustHaveNone(it);
  });
});
