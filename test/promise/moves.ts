import type { Asked } from './moved.ts';
import type { QemuShape } from './qemu.ts';
import type { SimulatedMove } from './simulated.ts';

/** From 0 to below 1. */
export type Random = () => number;

const WORKLOADS = ['idle', 'uniform', 'hot-set', 'sweep', 'phased'] as const;
const DEVICE_STATES = ['64KiB', '1MiB', '8MiB'] as const;

/** What a move may be made of, out of a random source. */
export function dice(random: Random) {
  return {
    between: (low: number, high: number) => Math.round(low + random() * (high - low)),
    oneOf: <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)]!,
    chance: (share: number) => random() < share,
  };
}

/** A simulated guest of any kind, and what is asked for it. */
export function simulatedMove(random: Random): SimulatedMove {
  const { between, oneOf, chance } = dice(random);
  const workload = oneOf(WORKLOADS);
  const limitMs = between(8, 60) * 10;
  const options = ['--max-suspend-time', `${limitMs}ms`, ...wayOptions(random)];
  const guest = {
    memory: `${between(16, 48) * 8}MiB`,
    workload,
    ...(workload === 'idle' ? {} : { rate: between(2, 80) * 100 }),
    workingSet: `${between(1, 64)}MiB`,
    deviceState: oneOf(DEVICE_STATES),
    seed: between(1, 2 ** 31),
  };
  const { memory, workingSet, deviceState, rate = '' } = guest;
  const what = `${memory} ${workload} ${rate} ${workingSet} state ${deviceState}`;
  return { kind: 'simulated', what, guest, limitMs, options, busyMachine: chance(1 / 4) };
}

/** A cap or none, compression or none. */
export function wayOptions(random: Random): string[] {
  const { between, chance } = dice(random);
  const bandwidth = chance(1 / 3) ? ['--bandwidth', `${between(40, 200)}MB/s`] : [];
  return [...bandwidth, ...(chance(1 / 4) ? ['--no-compression'] : [])];
}

/** A small Linux guest, quiet or busy. */
export function qemuShape(random: Random): QemuShape {
  const { between, oneOf } = dice(random);
  return {
    qemu: oneOf(['10.0', '7.2']),
    memoryMiB: between(4, 8) * 32,
    cpus: between(1, 2),
    ram: oneOf(['files', 'anonymous']),
    dirtyPagesPerSecond: between(0, 5) * 1000,
  };
}

/** What is asked for one of its moves. */
export function qemuMove(
  { qemu, memoryMiB, ram, dirtyPagesPerSecond }: QemuShape,
  random: Random,
): Asked {
  const { between, chance } = dice(random);
  const limitMs = between(10, 80) * 10;
  const options = ['--max-suspend-time', `${limitMs}ms`, ...wayOptions(random)];
  const what = `QEMU ${qemu} ${memoryMiB}MiB ${ram} ${dirtyPagesPerSecond}/s`;
  return { kind: 'qemu', what, limitMs, options, busyMachine: chance(1 / 4) };
}
