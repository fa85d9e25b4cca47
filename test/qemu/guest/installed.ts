import fs from 'node:fs';
import path from 'node:path';

/** Where `.ci/qemu` unpacks Debian's packages. */
const ROOT = '/opt/godwit-qemu';

export type QemuVersion = '10.0' | '7.2';

/** The program of that version; a script that executes QEMU in its place, so the pid is QEMU's. */
export function qemuProgram(version: QemuVersion): string {
  return path.join(ROOT, version, 'qemu-system-x86_64');
}

/** A file from the packages of which the test guest is made. */
export function guestFile(name: string): string {
  return path.join(ROOT, 'guest', name);
}

/** The newest kernel's release, as `6.1.0-50-cloud-amd64`. */
export function kernelRelease(): string {
  return fs.readdirSync(guestFile('lib/modules')).sort().at(-1)!;
}

/** Why tests with real QEMU guests cannot run on this machine; undefined when they can. */
export function whyNoQemu(): string | undefined {
  const needed = [
    qemuProgram('10.0'),
    qemuProgram('7.2'),
    guestFile('bin/busybox'),
    guestFile('bin/cpio'),
    '/usr/bin/gcc',
    '/usr/lib/x86_64-linux-gnu/libc.a',
  ];
  const missing = needed.find((file) => !fs.existsSync(file));
  return missing && `${missing} is missing: \`sudo .ci/qemu\` installs what is needed`;
}

/** The title of a suite that needs QEMU; it says so when the suite is skipped for want of it. */
export function titled(title: string): string {
  const reason = whyNoQemu();
  return reason === undefined ? title : `${title} (skipped: ${reason})`;
}
