import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type CopiedDisk, imagesOf } from '../../../lib/guest/libvirt/copied-disks.ts';
import {
  giveImages,
  imageKey,
  makeImages,
  missingImages,
  removeImages,
} from '../../../lib/guest/libvirt/images.ts';
import { emptyQcow2, qcow2Capacity } from '../../../lib/guest/libvirt/qcow2.ts';
import { parseXml } from '../../../lib/xml.ts';

const GiB = 2 ** 30;
const CAPACITIES = new Map([['vda', 3 * GiB]]);

let dir: string;
let disk: CopiedDisk;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-images-'));
  const image = path.join(dir, 'vm1.img');
  disk = { target: 'vda', image, isFile: true, format: 'raw' };
});
afterEach(() => {
  fs.rmSync(dir, { recursive: true });
});

/** Makes what is missing; the second names of it. */
function made(one = disk, copies: 'all' | 'inc' = 'all'): string[] {
  const images = missingImages([one], CAPACITIES, copies);
  makeImages(images);
  return images.map(({ mark }) => mark);
}

test('an image that is missing is made as large as at its source, and goes when the guest does not come', () => {
  const marks = made();
  expect(fs.statSync(disk.image).size).toBe(3 * GiB);
  expect(fs.statSync(disk.image).mode & 0o777).toBe(0o600);
  removeImages(marks);
  removeImages(marks); // told twice
  expect(fs.readdirSync(dir)).toEqual([]);
});

test('an image that is given to its guest is never removed', () => {
  const marks = made();
  giveImages(marks);
  removeImages(marks);
  expect(fs.readdirSync(dir)).toEqual(['vm1.img']);
});

test('an image that somebody else has put there is never removed', () => {
  const [missing] = missingImages([disk], CAPACITIES, 'all');
  fs.writeFileSync(disk.image, 'theirs');
  expect(() => makeImages([missing!])).toThrow(/vm1\.img cannot be made: EEXIST/);
  removeImages([missing!.mark]);
  expect(fs.readFileSync(disk.image, 'utf8')).toBe('theirs');
  const marks = [missing!.mark];
  fs.rmSync(disk.image);
  makeImages([missing!]);
  fs.rmSync(disk.image);
  fs.writeFileSync(disk.image, 'theirs again');
  removeImages(marks);
  expect(fs.readdirSync(dir)).toEqual(['vm1.img']);
});

test('an image that is there is taken as it is, if it has the same size', () => {
  fs.writeFileSync(disk.image, '');
  fs.truncateSync(disk.image, 3 * GiB);
  expect(made()).toEqual([]);
  fs.truncateSync(disk.image, 2 * GiB);
  expect(() => made()).toThrow(/is there already and has 2 GiB .* at its source it has 3 GiB/);
});

test('an image of what is above a backing file has to be there', () => {
  const inc = { ...disk, format: 'qcow2' };
  expect(() => made(inc, 'inc')).toThrow(/--copy-storage-inc needs it there/);
  made(inc);
  expect(qcow2Capacity(fs.readFileSync(disk.image))).toBe(3 * GiB);
  expect(made(inc, 'inc')).toEqual([]); // it is there now, with that size
});

test('what cannot be made is refused by name', () => {
  expect(() => made({ ...disk, format: 'vmdk' })).toThrow(
    /vda .*images of format vmdk are not made/,
  );
  expect(() => made({ ...disk, isFile: false })).toThrow(/no such device/);
  expect(() => made({ ...disk, target: 'vdb' })).toThrow(/does not say how large/);
  const nowhere = path.join(dir, 'nowhere', 'vm1.img');
  expect(() => made({ ...disk, image: nowhere })).toThrow(/cannot be made: ENOENT/);
});

test.each([1, 512 << 20, (512 << 20) + 1, 2 ** 40])(
  'counts the clusters of an empty image of %d bytes',
  (capacity) => {
    const { parts, length } = emptyQcow2(capacity);
    const file = Buffer.alloc(length);
    for (const { at, bytes } of parts) bytes.copy(file, at);
    const cluster = 1 << file.readUInt32BE(20);
    const table = Number(file.readBigUInt64BE(40));
    const entries = file.readUInt32BE(36);
    expect(entries * (cluster / 8) * cluster).toBeGreaterThanOrEqual(capacity);
    expect(table + entries * 8).toBeLessThanOrEqual(length);
    const counts = Number(file.readBigUInt64BE(Number(file.readBigUInt64BE(48))));
    const counted = Array.from({ length: cluster / 2 }, (_, i) =>
      file.readUInt16BE(counts + 2 * i),
    );
    expect(counted.filter((one) => one === 1)).toHaveLength(length / cluster);
    expect(counted.lastIndexOf(1)).toBe(length / cluster - 1);
  },
);

test('an image is the same by whatever name, and images of a guest are all that is below them, too', () => {
  fs.writeFileSync(disk.image, '');
  const [link, other] = [`${disk.image}.link`, `${disk.image}.other`];
  fs.symlinkSync(disk.image, link);
  fs.linkSync(disk.image, other);
  expect([link, other].map(imageKey)).toEqual([disk.image, disk.image].map(imageKey));
  fs.writeFileSync(`${disk.image}.next`, '');
  expect(imageKey(`${disk.image}.next`)).not.toBe(imageKey(disk.image));
  expect(imageKey(path.join(dir, 'none'))).not.toBe(imageKey(path.join(dir, 'neither')));

  const chain = parseXml(`<domain><devices>
    <disk type='file'><source file='/a'><privateData/></source><backingStore type='file'>
      <format type='qcow2'/><source file='/b'/><backingStore type='block'><source dev='/dev/c'/>
      <backingStore/></backingStore></backingStore><target dev='vda'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/></disk></devices></domain>`);
  expect(imagesOf(chain)).toEqual(['/a', '/b', '/dev/c']);
});
