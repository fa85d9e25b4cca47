import { expect, test } from 'vitest';
import { Chunker } from '../../../lib/guest/qemu/chunker.ts';
import { CHUNK_SIZE, PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';
import { ChunkRingReader, RING_SIZE } from '../../../lib/pages/chunk-ring.ts';

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
  const rings = [0, 1].map(() => new SharedArrayBuffer(RING_SIZE));
  const chunker = new Chunker(BLOCKS, REGIONS, rings);
  const [even, odd] = rings.map((ring) => new ChunkRingReader(ring));
  const into = Buffer.alloc(CHUNK_SIZE);

  chunker.put(0, 0, page('a'));
  chunker.put(0, PAGE_SIZE, undefined);
  chunker.put(0, MIB, page('b'));
  chunker.put(2, PAGE_SIZE, page('c'));
  const first = chunker.publish(1);
  expect(first.chunks).toEqual([1, 2]);
  const pages = new PageSet(832, first.pages);
  expect([...pages.runs()]).toEqual([
    { firstPfn: 0, pages: 2 },
    { firstPfn: 256, pages: 1 },
    { firstPfn: 769, pages: 1 },
  ]);
  expect(await even!.take(into)).toEqual({ chunk: 0, round: 1, offsets: [0, 1] });
  expect(await odd!.take(into)).toEqual({ chunk: 1, round: 1, offsets: [0] });
  expect(await odd!.take(into)).toEqual({ chunk: 3, round: 1, offsets: [1] });
  expect(into.subarray(PAGE_SIZE, 2 * PAGE_SIZE).equals(page('c'))).toBe(true);

  chunker.put(0, 0, page('d'));
  chunker.put(0, 2 * MIB, page('e')); // published by the turn to another chunk
  chunker.put(0, 0, page('f'));
  const second = chunker.publish(2);
  expect(second.chunks).toEqual([4, 2]);
  expect([...new PageSet(832, second.pages).runs()]).toEqual([
    { firstPfn: 0, pages: 1 },
    { firstPfn: 512, pages: 1 },
  ]);
  for (const chunk of [0, 2, 0]) expect(await even!.take(into)).toMatchObject({ chunk, round: 2 });
  expect(into.subarray(0, PAGE_SIZE).equals(page('f'))).toBe(true);
  expect(chunker.publish(3)).toMatchObject({ chunks: [4, 2] });
});
