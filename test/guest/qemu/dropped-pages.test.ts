import { randomFillSync } from 'node:crypto';
import { expect, test } from 'vitest';
import { DroppedPages } from '../../../lib/guest/push/dropped-pages.ts';
import { PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';

const TOTAL = 32_768;
const BLOCKS = [{ name: 'pc.ram', length: TOTAL * PAGE_SIZE }];
const TEXT = Buffer.alloc(3 * PAGE_SIZE, 'one word and another ');
const noise = () => randomFillSync(Buffer.alloc(PAGE_SIZE));

test('pages that are dropped show what the first pass over the memory has held', () => {
  const dropped = new DroppedPages(BLOCKS);
  expect(dropped.shares).toEqual({ zeroShare: 0, compressedShare: 1 });
  for (let page = 0; page < TOTAL; page++)
    if (page % 4 === 0) dropped.zero();
    else dropped.put(page < TOTAL / 2 ? TEXT : noise(), 0);
  const { zeroShare, compressedShare } = dropped.shares;
  expect(zeroShare).toBe(0.25);
  expect(compressedShare).toBeGreaterThan(0.2);
  expect(compressedShare).toBeLessThan(0.8);
  // What later passes send again is not looked at.
  for (let page = 0; page < TOTAL; page++) dropped.zero();
  dropped.put(noise(), 0);
  expect(dropped.shares).toEqual({ zeroShare, compressedShare });
});
