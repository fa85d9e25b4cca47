import { expect, test } from 'vitest';
import { Chunker } from '../../../lib/guest/push/chunker.ts';
import { PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';
import { ChunkRingReader, newRing } from '../../../lib/pages/chunk-ring.ts';

const MIB = 1 << 20;
const BLOCKS = [
  { name: 'pc.ram', length: 3 * MIB },
  { name: 'hole', length: 0 },
  { name: 'pc.bios', length: 256 * 1024 },
];
const REGIONS = [
  { name: 'pc.ram', firstPfn: 0, pages: 768 },
  { name: 'pc.bios', firstPfn: 768, pages: 64 },
];
const page = (text: string) => Buffer.alloc(PAGE_SIZE, text);

test('pages go to the ring of their chunk, and belong to the round that they are published in', async () => {
  const rings = [0, 1].map(() => newRing(4, 0n));
  const chunker = new Chunker(BLOCKS, REGIONS, rings);
  const [even, odd] = rings.map((ring) => new ChunkRingReader(ring));

  chunker.put(0, 0, page('a'), 0);
  chunker.zero(0, PAGE_SIZE);
  chunker.put(0, MIB, page('b'), 0);
  chunker.put(2, PAGE_SIZE, page('c'), 0);
  const first = chunker.publish(1);
  expect(first.chunks).toEqual([1, 2]);
  const pages = new PageSet(832, first.pages);
  expect([...pages.runs()]).toEqual([
    { firstPfn: 0, pages: 2 },
    { firstPfn: 256, pages: 1 },
    { firstPfn: 769, pages: 1 },
  ]);
  const [zeros, noZeros] = [new Set([1]), new Set()];
  expect(await even!.take()).toMatchObject({ chunk: 0, round: 1, offsets: [0, 1], zeros });
  expect(await odd!.take()).toMatchObject({ chunk: 1, round: 1, offsets: [0], zeros: noZeros });
  const last = await odd!.take();
  expect(last).toMatchObject({ chunk: 3, round: 1, offsets: [1] });
  expect(last.pages.subarray(PAGE_SIZE, 2 * PAGE_SIZE).equals(page('c'))).toBe(true);

  chunker.put(0, 0, page('d'), 0);
  chunker.put(0, 2 * MIB, page('e'), 0); // published by the turn to another chunk
  chunker.put(0, 0, page('f'), 0);
  const second = chunker.publish(2);
  expect(second.chunks).toEqual([4, 2]);
  expect([...new PageSet(832, second.pages).runs()]).toEqual([
    { firstPfn: 0, pages: 1 },
    { firstPfn: 512, pages: 1 },
  ]);
  let pagesOf: Buffer | undefined;
  for (const chunk of [0, 2, 0]) {
    const taken = await even!.take();
    expect(taken).toMatchObject({ chunk, round: 2 });
    pagesOf = taken.pages;
  }
  expect(pagesOf!.subarray(0, PAGE_SIZE).equals(page('f'))).toBe(true);
  expect(chunker.publish(3)).toMatchObject({ chunks: [4, 2] });
});
