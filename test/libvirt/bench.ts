/**
 * `npm run bench:libvirt [-- --quick] [--memory MIB] [--repeats N] [--json]`
 *
 * One domain moved by `virsh migrate --live --p2p` and by Godwit, in turn, so that a machine that changes its
 * speed changes it for all of them; medians count. It runs on one machine: virsh has a Unix socket for its
 * stream, and Godwit TCP on loopback. Measures; judges nothing and fails on nothing but a broken
 * migration. With --quick everything is tried once and small. Needs what test/libvirt needs.
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { parseCount } from '../../lib/units.ts';
import { digits, spread, table } from '../qemu/bench-table.ts';
import { switchoverGap } from '../qemu/guest/witness.ts';
import { busy } from '../qemu/guest/workload.ts';
import { whyNoLibvirt } from './libvirt-host.ts';
import { LibvirtMigration } from './migration.ts';

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    memory: { type: 'string' },
    repeats: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const memoryMiB = parseCount(given.memory ?? (given.quick ? '128' : '512'), '--memory', {
  min: 128,
  max: 65_536,
});
const repeats = parseCount(given.repeats ?? (given.quick ? '1' : '5'), '--repeats', {
  min: 1,
  max: 1000,
});
const say = (text: string) => process.stderr.write(`${text}\n`);

const why = whyNoLibvirt();
if (why !== undefined) {
  say(`the benchmark of libvirt migrations cannot run: ${why}`);
  process.exit(1);
}

interface Cost {
  readonly seconds: number;
  readonly bytes: number;
  /** Between the guest's last heartbeat at its source and its first one at the destination. */
  readonly suspensionMs: number;
}

interface Method {
  readonly name: string;
  /** @returns bytes on the way */
  move(migration: LibvirtMigration): Promise<number>;
}

const BEAT_MS = 20;
const MEMFD = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>";

/** A benchmark is no place to roll back. */
const godwit = (placement: string): Method => ({
  name: `Godwit, ${placement}`,
  async move(migration) {
    const ended = await migration.migrate('--max-suspend-time', '60s', '--pause-below', '300ms');
    if (ended.outcome !== 'completed') throw new Error(`Godwit: ${ended.message}`);
    return ended.wireBytes;
  },
});

const virsh = (...more: string[]): Method => ({
  name: ['virsh --live --p2p', ...more.slice(0, 1)].join(' '),
  async move({ libvirt, hosts }) {
    const { source, destination } = libvirt;
    const to = `qemu+unix:///system?socket=${destination.socket}`;
    const stream = `unix://${path.join(hosts.dir, 'p2p.sock')}`;
    await source.virsh('migrate', 'vm1', to, '--live', '--p2p', '--migrateuri', stream, ...more);
    const stats = await destination.virsh('domjobinfo', 'vm1', '--completed', '--rawstats');
    return Number(/^data_processed:\s*(\d+)/m.exec(stats)?.[1]);
  },
});

/** By the memory that the domain has: the first methods take either. */
const SETS: readonly { readonly backing: string; readonly methods: readonly Method[] }[] = [
  {
    backing: '',
    methods: [virsh(), virsh('--parallel', '--parallel-connections', '2'), godwit('stream')],
  },
  { backing: MEMFD, methods: [virsh(), godwit('direct')] },
];

const results: { name: string; costs: Cost[] }[] = [];
for (const { backing, methods } of SETS) {
  const workload = {
    ...busy,
    dirtyPagesPerSecond: 1000,
    beatMs: BEAT_MS,
    checkedMiB: 16,
    md5MiB: 0,
  };
  const migration = await LibvirtMigration.prepare({ shape: { backing, memoryMiB, workload } });
  try {
    const memory = backing === '' ? 'anonymous' : 'memfd';
    const rows = methods.map(({ name }) => ({ name: `${name} (${memory})`, costs: [] as Cost[] }));
    results.push(...rows);
    for (let turn = 1; turn <= repeats; turn++)
      for (const [at, method] of methods.entries()) {
        const cost = await measure(method, migration);
        rows[at]!.costs.push(cost);
        say(`${rows[at]!.name}, ${turn} of ${repeats}: ${digits(cost.seconds)} s`);
        await migration.libvirt.destination.virsh('destroy', 'vm1');
        await migration.boot();
      }
  } catch (error) {
    say(migration.log);
    throw error;
  } finally {
    await migration.end();
  }
}
print();

async function measure(method: Method, migration: LibvirtMigration): Promise<Cost> {
  const begun = performance.now();
  const bytes = await method.move(migration);
  const seconds = (performance.now() - begun) / 1000;
  const { source, destination } = migration.consoles;
  await destination.line(/^beat/, { from: 0 });
  return { seconds, bytes, suspensionMs: switchoverGap(source, destination).hostMs };
}

function print(): void {
  const cpu = os.cpus()[0]?.model.trim();
  const machine = `${cpu}, ${os.availableParallelism()} cores, Node ${process.version}, libvirt 11.3, QEMU 10.0 (TCG)`;
  if (given.json) {
    process.stdout.write(`${JSON.stringify({ machine, memoryMiB, results })}\n`);
    return;
  }
  const rows = results.map(({ name, costs }) => [
    name,
    spread(costs.map(({ seconds }) => seconds)),
    spread(costs.map(({ bytes }) => bytes / 1e6)),
    spread(costs.map(({ suspensionMs }) => suspensionMs)),
  ]);
  const head = ['method', 'wall, s', 'bytes, MB', `gap of a ${BEAT_MS} ms heartbeat, ms`];
  process.stdout.write(`\n${machine}; a domain of ${memoryMiB} MiB; median (lowest to highest)\n`);
  process.stdout.write(`\n${table(head, rows)}`);
}
