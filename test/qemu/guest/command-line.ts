import type { GuestImage } from './build.ts';
import { busy, type Workload, workloadOptions } from './workload.ts';

/** `disk` and `net` are virtio and in use by the guest; the cloud kernel has no driver for e1000e. */
export type Device = 'disk' | 'net' | 'e1000e' | 'vga';

/** What a guest is, the same at its source and at its destination. */
export interface GuestShape {
  /** As for `-machine`: `q35`, `pc`, `microvm`, `pc-q35-7.2`… A microvm has virtio devices only. */
  readonly machine: string;
  readonly memoryMiB: number;
  readonly cpus: number;
  /** 2: two NUMA nodes, each with a memory backend of its own and half of the memory. */
  readonly nodes: 1 | 2;
  /** The memory is not made odd (ODD_KIB): under QEMU 10.0 with one node, nothing is lost then either. */
  readonly wholeBlocks: boolean;
  readonly devices: readonly Device[];
  readonly workload: Workload;
}

export const defaultShape: GuestShape = {
  machine: 'q35',
  memoryMiB: 256,
  cpus: 1,
  nodes: 1,
  wholeBlocks: false,
  devices: [],
  workload: busy,
};

/** What a guest has of its host, another at its destination than at its source. */
export interface HostParts {
  /** The socket on which a SerialConsole listens before QEMU starts. */
  readonly console: string;
  /** The QMP socket for the agents, and the test's own: each serves one client at a time. */
  readonly monitor: string;
  readonly testMonitor: string;
  /** RAM files (share=on), one for each node; none: anonymous memory. */
  readonly ramFiles: readonly string[];
  /** The image of the device `disk`. */
  readonly disk: string;
}

/**
 * What each node has less than its part of the memory. In RAM blocks whose size is a multiple of 64 pages
 * QEMU loses writes of TCG guests: having noted their dirty pages, 7.2 does not tell the processors that
 * these are clean again, and 10.0 tells them about the first block, whichever it was. Half of all migrations
 * of busy guests, without any agent, lost pages. Blocks of other sizes are looked through page by page, while
 * the guest stands still: for more than a second in the first round of 512 MiB.
 */
const ODD_KIB = 8;

/** QEMU's arguments for a guest; a destination gets `-incoming defer -S` in addition. */
export function qemuArguments(image: GuestImage, shape: GuestShape, host: HostParts): string[] {
  return [
    ...['-accel', 'tcg', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-smp', `${shape.cpus}`, '-m', `${nodeKiB(shape) * shape.nodes}K`],
    ...memory(shape, host.ramFiles),
    ...['-kernel', image.kernel, '-initrd', image.initramfs],
    ...['-append', kernelCommandLine(image, shape)],
    ...['-chardev', `socket,id=console,path=${host.console}`, '-serial', 'chardev:console'],
    ...[host.monitor, host.testMonitor].flatMap(monitorArguments),
    ...shape.devices.flatMap((device) => deviceArguments(device, shape.machine, host.disk)),
  ];
}

function monitorArguments(path: string): string[] {
  return ['-qmp', `unix:${path},server=on,wait=off`];
}

function nodeKiB({ memoryMiB, nodes, wholeBlocks }: GuestShape): number {
  return (memoryMiB * 1024) / nodes - (wholeBlocks ? 0 : ODD_KIB);
}

/** Named as without a backend, and as by libvirt: a guest in a RAM file fits one in anonymous memory. */
function memory(shape: GuestShape, files: readonly string[]): string[] {
  const { machine, nodes } = shape;
  const size = `${nodeKiB(shape)}K`;
  const file = (name: string, path: string) =>
    `memory-backend-file,id=${name},size=${size},mem-path=${path},share=on`;
  if (nodes === 1) {
    const name = machine.startsWith('microvm') ? 'microvm.ram' : 'pc.ram';
    if (files[0] === undefined) return ['-machine', machine];
    return ['-object', file(name, files[0]), '-machine', `${machine},memory-backend=${name}`];
  }
  const node = (index: number) => {
    const name = `ram-node${index}`;
    const anonymous = `memory-backend-ram,id=${name},size=${size}`;
    const object = files[index] ? file(name, files[index]) : anonymous;
    return ['-object', object, '-numa', `node,nodeid=${index},memdev=${name}`];
  };
  return ['-machine', machine, ...node(0), ...node(1)];
}

/**
 * Its clocks are told, not measured: a busy host lets the kernel measure nonsense, or hang over it (microvm).
 * Several processors have ticks: under TCG one of them, halted, loses a one-shot timer once in some thirty
 * boots on a busy host, and the guest hangs with it.
 */
export function kernelCommandLine(
  image: GuestImage,
  { workload, cpus = 1 }: Pick<GuestShape, 'workload'> & { readonly cpus?: number },
): string {
  return [
    ...['console=ttyS0', 'quiet', 'panic=-1', 'nokaslr', 'mitigations=off'],
    ...['no_timer_check', 'tsc=reliable', `tsc_early_khz=${image.tscKhz}`],
    ...(cpus > 1 ? ['nohz=off', 'highres=off'] : []),
    ...workloadOptions(workload),
  ].join(' ');
}

function deviceArguments(device: Device, machine: string, disk: string): string[] {
  const bus = machine.startsWith('microvm') ? 'device' : 'pci';
  switch (device) {
    case 'disk':
      return [
        ...['-drive', `file=${disk},if=none,id=disk,format=raw`],
        ...['-device', `virtio-blk-${bus},drive=disk`],
      ];
    case 'net':
      return [...['-netdev', 'user,id=net,restrict=on', '-device', `virtio-net-${bus},netdev=net`]];
    case 'e1000e':
      return ['-netdev', 'user,id=e1000e,restrict=on', '-device', 'e1000e,netdev=e1000e'];
    case 'vga':
      return ['-device', 'VGA'];
  }
}
