import type { GuestImage } from '../qemu/guest/build.ts';
import { kernelCommandLine } from '../qemu/guest/command-line.ts';
import type { QemuVersion } from '../qemu/guest/installed.ts';
import { busy, idle, type Workload } from '../qemu/guest/workload.ts';

export interface DomainShape {
  readonly machine: string;
  readonly memoryMiB: number;
  readonly workload: Workload;
  /** XML of `memoryBacking`; none: anonymous memory. */
  readonly backing: string;
  /** XML of `cpu`; none: as libvirt has it. */
  readonly cpu: string;
  /** XML of more devices. */
  readonly devices: string;
}

/**
 * QEMU 7.2 loses writes of TCG guests whose RAM blocks are as large as libvirt makes them
 * (test/qemu/guest/command-line.ts), those of the kernel as well: one that rewrites nothing may still
 * not live through it, so no test rests on one.
 */
export function defaultDomain(qemu: QemuVersion): DomainShape {
  const workload = qemu === '7.2' ? idle : { ...busy, dirtyPagesPerSecond: 1000 };
  return {
    machine: `pc-q35-${qemu}`,
    memoryMiB: 128,
    workload: { ...workload, beatMs: 20, checkedMiB: 16, md5MiB: 0 },
    backing: '',
    cpu: '',
    devices: '',
  };
}

/** The Linux test guest as a domain. */
export function domainXml(
  image: GuestImage,
  shape: DomainShape & { readonly emulator: string; readonly console: string },
): string {
  return `<domain type='qemu'>
  <name>vm1</name>
  <uuid>6f6f6f6f-1111-4222-8333-444444444444</uuid>
  <memory unit='MiB'>${shape.memoryMiB}</memory>
  ${shape.backing}
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='${shape.machine}'>hvm</type>
    <kernel>${image.kernel}</kernel>
    <initrd>${image.initramfs}</initrd>
    <cmdline>${kernelCommandLine(image, shape)}</cmdline>
  </os>
  ${shape.cpu}
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>${shape.emulator}</emulator>
    <controller type='usb' model='none'/>
    <serial type='unix'><source mode='connect' path='${shape.console}'/></serial>
    <memballoon model='none'/>
    ${shape.devices}
  </devices>
</domain>
`;
}
