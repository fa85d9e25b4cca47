import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { ContentSample } from '../../lib/pages/content-sample.ts';

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-content-'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

/** A region of that many pages; `fill` says what each holds, nothing for a page of zeros. */
function regionFile(pages: number, fill: (page: number) => Buffer | undefined, firstPfn = 0) {
  const file = path.join(dir, `${firstPfn}`);
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, pages * PAGE_SIZE);
  for (let page = 0; page < pages; page++) {
    const bytes = fill(page);
    if (bytes !== undefined) fs.writeSync(fd, bytes, 0, PAGE_SIZE, page * PAGE_SIZE);
  }
  fs.closeSync(fd);
  return { region: { name: file, firstPfn, pages }, path: file, offset: 0 };
}

function sharesOf(...files: ReturnType<typeof regionFile>[]) {
  const sample = new ContentSample(files);
  let pieces = 0;
  for (; sample.left > 0; pieces++) sample.next();
  sample.close();
  return { ...sample.shares, pieces };
}

const random = () => crypto.getRandomValues(Buffer.alloc(PAGE_SIZE));
const text = (page: number) => Buffer.alloc(PAGE_SIZE, `the same line in page ${page}\n`);

test('a small guest is seen whole, zero pages and others apart', () => {
  const one = regionFile(100, (page) => (page % 4 === 0 ? undefined : random()));
  const two = regionFile(300, () => undefined, 256);
  const { zeroShare, compressedShare } = sharesOf(one, two);
  expect(zeroShare).toBe(325 / 400);
  expect(compressedShare).toBe(1); // never more than the pages themselves
});

test('what compresses well is a small share, and half of it half', () => {
  const packed = sharesOf(regionFile(256, text)).compressedShare;
  expect(packed).toBeLessThan(0.1);
  const mixed = sharesOf(regionFile(256, (page) => (page % 2 === 0 ? random() : text(page))));
  expect(mixed.compressedShare).toBeGreaterThan(0.4);
  expect(mixed.compressedShare).toBeLessThan(0.6);
  expect(mixed.zeroShare).toBe(0);
});

test('a guest of nothing but zeros', () => {
  expect(sharesOf(regionFile(64, () => undefined))).toMatchObject({
    ...{ zeroShare: 1, compressedShare: 1 },
  });
});

test('of a large guest a sample is seen, from all parts of it', () => {
  const pages = 64 * 1024;
  const { zeroShare, pieces } = sharesOf(
    regionFile(pages, (page) => (page < pages / 4 ? text(page) : undefined)),
  );
  expect(pieces).toBe(128);
  expect(zeroShare).toBeGreaterThan(0.74);
  expect(zeroShare).toBeLessThan(0.76);
});
