import fs from 'node:fs';
import path from 'node:path';
import { emptyQcow2 } from '../../lib/guest/libvirt/qcow2.ts';
import type { LibvirtHost } from './libvirt-host.ts';

const MiB = 1 << 20;

/** A disk of the test guest that its hosts do not share: each has images of its own in the same place. */
export class LocalDisk {
  static readonly dir = '/run/images';
  static readonly path = `${LocalDisk.dir}/vm1.img`;
  /** Of a guest that has two. */
  static readonly second = `${LocalDisk.dir}/vm1-data.img`;
  static readonly base = `${LocalDisk.dir}/base.img`;
  static readonly bytes = 64 * MiB;
  readonly format: 'raw' | 'qcow2';

  constructor(format: 'raw' | 'qcow2') {
    this.format = format;
  }

  get xml(): string {
    return this.#disk(LocalDisk.path, 'vda');
  }

  /** It, and another one. */
  get twoXml(): string {
    return `${this.xml}${this.#disk(LocalDisk.second, 'vdb')}`;
  }

  #disk(image: string, target: string): string {
    return `<disk type='file'><driver name='qemu' type='${this.format}'/>
      <source file='${image}'/><target dev='${target}' bus='virtio'/></disk>`;
  }

  /** Where its image, or that below it, is for this process. */
  static at(host: LibvirtHost, image = LocalDisk.path): string {
    fs.mkdirSync(path.join(host.dir, LocalDisk.dir), { recursive: true });
    return path.join(host.dir, image);
  }

  /** Has images at the host in a file system of their own, of that size. */
  static async confine(host: LibvirtHost, bytes: number): Promise<void> {
    LocalDisk.at(host);
    await host.run('mount', '-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', LocalDisk.dir);
  }

  static async free(host: LibvirtHost): Promise<void> {
    await host.run('umount', LocalDisk.dir);
  }

  static filesAt(host: LibvirtHost): string[] {
    return fs.readdirSync(path.dirname(LocalDisk.at(host))).sort();
  }

  /** A raw one of that size, with bytes at its end that the guest does not write to. */
  static makeRaw(file: string, bytes = LocalDisk.bytes, filled = 0): void {
    fs.writeFileSync(file, '');
    fs.truncateSync(file, bytes);
    const fd = fs.openSync(file, 'r+');
    if (filled > 0) fs.writeSync(fd, Buffer.alloc(filled, 'godwit'), 0, filled, bytes - filled);
    fs.closeSync(fd);
  }

  /** An empty one on the base: QEMU's docs/interop/qcow2.txt. */
  static makeOverlay(file: string): void {
    const { parts, length } = emptyQcow2(LocalDisk.bytes);
    const below = Buffer.from(LocalDisk.base);
    const where = Buffer.alloc(12);
    where.writeBigUInt64BE(128n);
    where.writeUInt32BE(below.length, 8);
    const format = Buffer.from('e2792aca00000003', 'hex');
    const fd = fs.openSync(file, 'w');
    for (const { at, bytes } of parts) fs.writeSync(fd, bytes, 0, bytes.length, at);
    fs.writeSync(fd, where, 0, where.length, 8);
    fs.writeSync(fd, Buffer.concat([format, Buffer.from('raw')]), 0, 11, 104);
    fs.writeSync(fd, below, 0, below.length, 128);
    fs.ftruncateSync(fd, length);
    fs.closeSync(fd);
  }
}
