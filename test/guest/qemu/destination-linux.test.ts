import fs from 'node:fs';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { startQemuDestination } from '../../../lib/guest/qemu/destination.ts';
import { pong, shut } from '../../../lib/stream/qemu/return-path.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { LONG } from '../../long.ts';
import { GuestSite } from '../../qemu/guest/guest-site.ts';
import { type QemuVersion, qemuProgram, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import { LinuxGuest, type LinuxGuestOptions, TEST_BOUND_MS } from '../../qemu/guest/linux-guest.ts';
import { compareRamFiles } from '../../qemu/guest/ram-files.ts';
import { fullCheck, verdict } from '../../qemu/guest/witness.ts';
import { idle } from '../../qemu/guest/workload.ts';
import { Courier } from './courier.ts';

const crew = crewOfTest();

vi.setConfig({ testTimeout: TEST_BOUND_MS });

/** QEMU 7.2 under TCG loses dirty pages by itself: its guest keeps quiet. */
const GUESTS: readonly [QemuVersion, LinuxGuestOptions][] = [
  ['10.0', { cpus: 2, nodes: 2, devices: ['disk', 'net', 'e1000e', 'vga'] }],
  ['10.0', { machine: 'microvm', devices: ['disk', 'net'] }],
  ['7.2', { machine: 'pc', devices: ['disk', 'net', 'vga'], workload: idle }],
];
const CASES = GUESTS.flatMap(([qemu, options]) =>
  (['direct', 'stream'] as const).map((placement) => ({
    qemu,
    options,
    placement,
    title: `${options.machine ?? 'q35'} on ${qemu}, ${placement}`,
  })),
);

describe.skipIf(whyNoQemu())(titled('a Linux guest arrives'), () => {
  const ends: (() => Promise<void>)[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  /** RAM files on both sides, so that they can be compared; QEMU's own where placement is stream. */
  function definitionOf(site: GuestSite, qemu: QemuVersion, direct: boolean): GuestDefinition {
    const { monitor, ramFiles } = site.host;
    const blockOf = (node: number) =>
      site.shape.nodes === 2
        ? `ram-node${node}`
        : site.shape.machine === 'microvm'
          ? 'microvm.ram'
          : 'pc.ram';
    const ram = ramFiles.map((file, node) => ({ block: blockOf(node), file }));
    return {
      name: 'vm1',
      file: '/etc/vm1.json',
      hypervisor: 'qemu',
      qmp: monitor,
      command: [qemuProgram(qemu), ...site.arguments],
      ram: direct ? ram : [],
      hooks: {},
      limits: {},
    };
  }

  /** Migrates a source QEMU into the courier; resolves with its connection when all is brought. */
  async function carry(
    { qmp, site: { host } }: LinuxGuest,
    site: GuestSite,
    definition: GuestDefinition,
  ): Promise<{ courier: Courier; connection: Socket }> {
    const socket = path.join(path.dirname(host.monitor), 'out');
    const stagingDir = path.dirname(site.host.monitor);
    const logFile = path.join(stagingDir, 'log');
    const { promise, resolve } = Promise.withResolvers<Socket>();
    const server = createServer(resolve).listen(socket);
    ends.push(async () => void server.close());
    await qmp.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'return-path', state: true }],
    });
    await qmp.execute('migrate', { uri: `unix:${socket}` });
    const connection = await promise;
    connection.on('error', () => {}); // a test that has failed is not read to its end
    const courier = new Courier('vm1', (value) => connection.write(pong(value)));
    ends.push(async () => {
      courier.close();
      await courier.destination?.destroy();
      connection.destroy();
    });
    const known = async () => {};
    // The stream ends before the connection does: the source waits for the last word.
    for await (const bytes of connection.iterator({ destroyOnReturn: false })) {
      await courier.take(bytes, (description) =>
        startQemuDestination({ crew, definition, description, stagingDir, logFile, known }),
      );
      if (courier.complete) return { courier, connection };
    }
    throw new Error('the source closed its stream');
  }

  async function arrives({ qemu, options, placement }: (typeof CASES)[number]): Promise<void> {
    const source = await LinuxGuest.start({ ...options, qemu, ram: 'files' });
    ends.push(() => source.end());
    await source.booted();
    const site = await GuestSite.prepare({ origin: source.site, ram: 'files' });
    ends.push(() => site.remove());
    const definition = definitionOf(site, qemu, placement === 'direct');
    const { courier, connection } = await carry(source, site, definition);
    await courier.finish();
    for (const [node, file] of source.site.host.ramFiles.entries())
      expect(compareRamFiles(file, site.host.ramFiles[node]!)).toEqual([]);
    connection.write(shut(0));
    await until(async () => {
      const { status } = await source.qmp.execute<{ status: string }>('query-migrate');
      return status === 'completed';
    }, 'the source has given the guest up');
    await courier.destination.resume();
    await fullCheck(site);
    expect(verdict(source.site.console, site.console).bad).toEqual([]);
    expect(
      fs.readdirSync(path.dirname(site.host.monitor)).filter((name) => name.endsWith('.staging')),
    ).toEqual([]);
  }

  // Each machine and version in one placement, and both placements.
  test.each(CASES.filter((_, i) => i % 4 === 0 || i === 3))('$title', arrives);
  test.each(CASES.filter((_, i) => i % 4 !== 0 && i !== 3))('$title', LONG, arrives);

  const versions: readonly QemuVersion[] = ['10.0', '7.2'];
  test.each(versions)(
    'on %s and leaves its disk to the source until it is resumed',
    async (qemu) => {
      const source = await LinuxGuest.start({ qemu, devices: ['disk'], workload: idle });
      ends.push(() => source.end());
      await source.booted();
      const site = await GuestSite.prepare({ origin: source.site });
      ends.push(() => site.remove());
      const { courier, connection } = await carry(source, site, definitionOf(site, qemu, false));
      await courier.finish();
      connection.write(shut(1)); // it is not to go after all
      await fullCheck(source.site);
      expect(verdict(source.site.console).bad).toEqual([]);
      expect(site.console.lines).toEqual([]);
    },
  );
});
