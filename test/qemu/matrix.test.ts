import { afterEach, describe, expect, test, vi } from 'vitest';
import { LONG } from '../long.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { type LinuxGuestOptions, TEST_BOUND_MS } from './guest/linux-guest.ts';
import { busy, idle } from './guest/workload.ts';
import { QemuMigration, type QemuMigrationOptions, setCapability, smaller } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

interface Run {
  readonly source: LinuxGuestOptions;
  readonly destination: NonNullable<QemuMigrationOptions['destination']>;
  readonly options?: readonly string[];
  /** The operator has it on in the source. */
  readonly xbzrle?: true;
}

const direct = { ram: 'files' } as const;
const stream = { ram: 'anonymous' } as const;
const old = 'pc-q35-7.2';

/** Most pairs of these qualities meet at least once, where QEMU can have both (a microvm has no PCI, no NUMA). */
const RUNS: Readonly<Record<string, Run>> = {
  'q35, all devices, 2 vCPUs, 2 nodes, busy: direct, verified': {
    source: { cpus: 2, nodes: 2, devices: ['disk', 'net', 'e1000e', 'vga'], ram: 'files' },
    destination: direct,
    options: ['--verify'],
  },
  'q35, disk, VGA, 2 nodes, idle, XBZRLE: stream': {
    source: { nodes: 2, devices: ['disk', 'vga'], workload: idle },
    destination: stream,
    xbzrle: true,
  },
  'q35, net, e1000e, 2 vCPUs, busy, XBZRLE: stream': {
    source: { cpus: 2, devices: ['net', 'e1000e'], ram: 'files' },
    destination: stream,
    xbzrle: true,
  },
  'pc, net, VGA, busy, XBZRLE: direct': {
    source: { machine: 'pc', devices: ['net', 'vga'] },
    destination: direct,
    xbzrle: true,
  },
  'pc, disk, e1000e, 2 vCPUs, 2 nodes, busy: stream': {
    source: { machine: 'pc', cpus: 2, nodes: 2, devices: ['disk', 'e1000e'], ram: 'files' },
    destination: stream,
  },
  'pc, disk, idle: direct, verified': {
    source: { machine: 'pc', devices: ['disk'], workload: idle },
    destination: direct,
    options: ['--verify'],
  },
  'microvm, disk, net, 2 vCPUs, busy, XBZRLE: direct, verified': {
    source: { machine: 'microvm', cpus: 2, devices: ['disk', 'net'] },
    destination: direct,
    options: ['--verify'],
    xbzrle: true,
  },
  'microvm, disk, idle: stream': {
    source: { machine: 'microvm', devices: ['disk'], workload: idle, ram: 'files' },
    destination: stream,
  },
  '7.2 to 10.0, disk, net, 2 vCPUs, busy: direct, verified': {
    source: { qemu: '7.2', machine: old, cpus: 2, devices: ['disk', 'net'] },
    destination: direct,
    options: ['--verify'],
  },
  '7.2 to 10.0, e1000e, VGA, 2 nodes, idle, XBZRLE: stream': {
    source: { qemu: '7.2', machine: old, nodes: 2, devices: ['e1000e', 'vga'], workload: idle },
    destination: stream,
    xbzrle: true,
  },
  '10.0 to 7.2, e1000e, VGA, 2 vCPUs, busy: direct': {
    source: { machine: old, cpus: 2, devices: ['e1000e', 'vga'], ram: 'files' },
    destination: { ...direct, qemu: '7.2' },
  },
  '10.0 to 7.2, disk, net, 2 nodes, busy, XBZRLE: stream': {
    source: { machine: old, nodes: 2, devices: ['disk', 'net'] },
    destination: { ...stream, qemu: '7.2' },
    xbzrle: true,
  },
};

describe.skipIf(whyNoQemu())(titled('a Linux guest moves'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  async function moves(_: string, run: Run): Promise<void> {
    const { source, destination, options = [], xbzrle } = run;
    const workload = smaller(source.workload ?? busy);
    migration = await QemuMigration.prepare({ source: { ...source, workload }, destination });
    if (xbzrle) await setCapability(migration.source.qmp, 'xbzrle', true);
    const view = await migration.migrate('--max-suspend-time', '20s', ...options);
    expect(view).toMatchObject({ exit: 0, outcome: 'completed' });
    await migration.mustHaveMoved();
  }

  // Every machine, every version and both placements.
  const runs = Object.entries(RUNS);
  test.each(runs.filter((_, i) => i % 2 === 0))('%s', moves);
  test.each(runs.filter((_, i) => i % 2 === 1))('%s', LONG, moves);
});
