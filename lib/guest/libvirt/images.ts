import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { GodwitError } from '../../errors.ts';
import { formatSize } from '../../units.ts';
import type { StorageCopy } from '../hypervisor.ts';
import type { CopiedDisk } from './copied-disks.ts';
import { type EmptyImage, emptyQcow2, qcow2Capacity } from './qcow2.ts';

/** Of a file's beginning, enough to know its format by. */
const HEAD_BYTES = 64;
const MARK = /\.godwit-[0-9a-f]+$/;

/** An image that is to be made for a guest that arrives. */
export interface NewImage {
  /**
   * A second name of it, as long as it is ours: it is there before the image has its own name, and is
   * taken away before the guest may run. What has no such name is never removed.
   */
  readonly mark: string;
  readonly content: EmptyImage;
}

/**
 * What is missing for the disks of a guest that arrives, and that those that are there fit.
 * @param capacities bytes that the guest sees, by the disks' names
 * @throws GodwitError definition-invalid naming the image
 */
export function missingImages(
  disks: readonly CopiedDisk[],
  capacities: ReadonlyMap<string, number>,
  copies: StorageCopy,
): readonly NewImage[] {
  return disks.flatMap((disk) => {
    const capacity = capacities.get(disk.target);
    if (capacity === undefined) throw refusal(disk, 'its source does not say how large it is');
    const found = fs.statSync(disk.image, { throwIfNoEntry: false });
    if (found !== undefined) {
      requireFits(disk, capacity);
      return [];
    }
    const mark = `${disk.image}.godwit-${randomBytes(6).toString('hex')}`;
    return [{ mark, content: contentOf(disk, capacity, copies) }];
  });
}

function requireFits(disk: CopiedDisk, capacity: number): void {
  const has = capacityOf(disk);
  if (has === undefined || has === capacity) return;
  const here = `is there already and has ${formatSize(has)} (${has} bytes)`;
  throw refusal(disk, `${here}, at its source it has ${formatSize(capacity)} (${capacity} bytes)`);
}

/** Undefined where QEMU alone can say; it copies no disk to one of another size. */
function capacityOf({ image, isFile, format }: CopiedDisk): number | undefined {
  if (!isFile) return undefined;
  if (format === 'raw') return fs.statSync(image).size;
  if (format !== 'qcow2') return undefined;
  const fd = fs.openSync(image, 'r');
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    fs.readSync(fd, head, 0, HEAD_BYTES, 0);
    return qcow2Capacity(head) ?? 0;
  } finally {
    fs.closeSync(fd);
  }
}

function contentOf(disk: CopiedDisk, capacity: number, copies: StorageCopy): EmptyImage {
  const { isFile, format } = disk;
  if (!isFile) throw refusal(disk, 'there is no such device');
  if (copies === 'inc')
    throw refusal(disk, '--copy-storage-inc needs it there, with what is below it');
  if (format === 'raw') return { parts: [], length: capacity };
  if (format !== 'qcow2')
    throw refusal(disk, `it is not there, and images of format ${format} are not made`);
  try {
    return emptyQcow2(capacity);
  } catch (cause) {
    throw refusal(disk, (cause as Error).message);
  }
}

/** Alike for all names of one image: links of a file, nodes of a device. */
export function imageKey(image: string): string {
  const found = fs.statSync(image, { throwIfNoEntry: false });
  if (found === undefined) return image;
  const { dev, ino, rdev } = found;
  return found.isBlockDevice() ? `device ${rdev}` : `file ${dev} ${ino}`;
}

/** @throws GodwitError definition-invalid */
export function makeImages(images: readonly NewImage[]): void {
  for (const { mark, content } of images) {
    try {
      const fd = fs.openSync(mark, 'wx', 0o600);
      try {
        for (const { at, bytes } of content.parts) fs.writeSync(fd, bytes, 0, bytes.length, at);
        fs.ftruncateSync(fd, content.length);
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
      fs.linkSync(mark, imageOf(mark)); // never over one that is there
    } catch (cause) {
      const text = `the image ${imageOf(mark)} cannot be made: ${(cause as Error).message}`;
      throw new GodwitError('definition-invalid', text, { cause });
    }
  }
}

/** The images are the guest's. */
export function giveImages(marks: readonly string[]): void {
  for (const mark of marks) fs.rmSync(mark, { force: true });
}

/** The guest has not come: those that were made for it go. */
export function removeImages(marks: readonly string[]): void {
  for (const mark of marks) {
    const made = fs.statSync(mark, { throwIfNoEntry: false });
    const image = fs.statSync(imageOf(mark), { throwIfNoEntry: false });
    if (made === undefined) continue;
    if (image?.ino === made.ino && image.dev === made.dev) fs.rmSync(imageOf(mark));
    fs.rmSync(mark, { force: true });
  }
}

function imageOf(mark: string): string {
  return mark.replace(MARK, '');
}

function refusal({ target, image }: CopiedDisk, why: string): GodwitError {
  const text = `disk ${target} cannot be copied to ${image}: ${why}`;
  return new GodwitError('definition-invalid', text);
}
