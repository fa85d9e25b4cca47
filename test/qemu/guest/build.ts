import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { guestFile, kernelRelease } from './installed.ts';

const run = promisify(execFile);
const here = path.dirname(fileURLToPath(import.meta.url));

/** What the cloud kernel needs for virtio devices, in the order in which they depend on each other. */
const MODULES = [
  'drivers/virtio/virtio.ko',
  'drivers/virtio/virtio_ring.ko',
  'drivers/virtio/virtio_pci_modern_dev.ko',
  'drivers/virtio/virtio_pci_legacy_dev.ko',
  'drivers/virtio/virtio_pci.ko',
  'drivers/virtio/virtio_mmio.ko',
  'net/core/failover.ko',
  'drivers/net/net_failover.ko',
  'drivers/net/virtio_net.ko',
  'drivers/block/virtio_blk.ko',
];

export interface GuestImage {
  readonly kernel: string;
  readonly initramfs: string;
  /** Of the host's time-stamp counter, which a guest under TCG sees. */
  readonly tscKhz: number;
}

/**
 * Builds the Linux test guest (the distribution's cloud kernel, busybox, `init.sh` and `checker.c`), or takes
 * the one that was built before from the same parts. Takes a second the first time.
 */
export async function buildGuest(): Promise<GuestImage> {
  const dir = path.join(os.tmpdir(), `godwit-qemu-guest-${hashOfParts()}`);
  if (!fs.existsSync(dir)) await buildInto(dir);
  const { stdout } = await run(path.join(dir, 'root/bin/checker'), ['tsc']);
  return {
    kernel: guestFile(`boot/vmlinuz-${kernelRelease()}`),
    initramfs: path.join(dir, 'initramfs'),
    tscKhz: Number(stdout),
  };
}

function hashOfParts(): string {
  const hash = createHash('sha256').update(kernelRelease());
  for (const part of ['checker.c', 'init.sh', 'build.ts'])
    hash.update(fs.readFileSync(path.join(here, part)));
  return hash.digest('hex').slice(0, 16);
}

/** Whoever is first puts it in its place; test files that run at the same time may build it at the same time. */
async function buildInto(dir: string): Promise<void> {
  const work = fs.mkdtempSync(`${dir}-`);
  fs.chmodSync(work, 0o755); // for QEMUs of other users as well
  const root = path.join(work, 'root');
  await fillRoot(root);
  await packRoot(root, path.join(work, 'initramfs'));
  try {
    fs.renameSync(work, dir);
  } catch (error) {
    if (!fs.existsSync(dir)) throw error;
    fs.rmSync(work, { recursive: true });
  }
}

async function fillRoot(root: string): Promise<void> {
  for (const name of ['bin', 'modules']) fs.mkdirSync(path.join(root, name), { recursive: true });
  fs.copyFileSync(guestFile('bin/busybox'), path.join(root, 'bin/busybox'));
  fs.copyFileSync(path.join(here, 'init.sh'), path.join(root, 'init'));
  fs.chmodSync(path.join(root, 'init'), 0o755);
  const modules = path.join(guestFile('lib/modules'), kernelRelease(), 'kernel');
  for (const module of MODULES)
    fs.copyFileSync(path.join(modules, module), path.join(root, 'modules', path.basename(module)));
  const order = MODULES.map((module) => `${path.basename(module)}\n`).join('');
  fs.writeFileSync(path.join(root, 'modules/order'), order);
  const checker = path.join(root, 'bin/checker');
  await run('gcc', ['-O2', '-Wall', '-static', '-o', checker, path.join(here, 'checker.c')]);
}

/** Not compressed: 3 MiB are loaded faster than an emulated processor expands them. */
async function packRoot(root: string, file: string): Promise<void> {
  const command = `find . | sort | '${guestFile('bin/cpio')}' --create --format=newc --quiet >'${file}'`;
  await run('sh', ['-c', command], { cwd: root });
}
