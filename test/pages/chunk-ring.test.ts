import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CHUNK_SIZE, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { ChunkRingReader, ChunkRingWriter, RING_SIZE } from '../../lib/pages/chunk-ring.ts';

const page = (seed: number) => Buffer.alloc(PAGE_SIZE, `page ${seed};`);

test('every page comes out where it was put, the latest of its kind, zero pages as zeros', async () => {
  const put = fc.record({ offset: fc.nat(255), seed: fc.option(fc.nat(1000)) });
  const chunks = fc.array(fc.array(put, { minLength: 1, maxLength: 40 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(chunks, async (all) => {
      const buffer = new SharedArrayBuffer(RING_SIZE);
      const writer = new ChunkRingWriter(buffer);
      const reader = new ChunkRingReader(buffer);
      const into = Buffer.alloc(CHUNK_SIZE, 0xee);
      for (const [n, puts] of all.entries()) {
        writer.open(n * 7);
        const expected = new Map<number, Buffer>();
        for (const { offset, seed } of puts) {
          const bytes = seed === null ? undefined : page(seed);
          writer.put(offset, bytes);
          expected.set(offset, bytes ?? Buffer.alloc(PAGE_SIZE));
        }
        writer.publish(n + 1);
        expect(writer.published).toBe(n + 1);
        const { chunk, round, offsets } = await reader.take(into);
        expect([chunk, round]).toEqual([n * 7, n + 1]);
        expect(offsets).toEqual([...expected.keys()].sort((a, b) => a - b));
        for (const [offset, bytes] of expected) {
          const at = offset * PAGE_SIZE;
          expect(into.subarray(at, at + PAGE_SIZE).equals(bytes)).toBe(true);
        }
      }
    }),
    { numRuns: 60 },
  );
});

test('a full ring holds its writer up, and loses nothing', async () => {
  const buffer = new SharedArrayBuffer(RING_SIZE);
  const chunks = 200;
  const writer = new Worker(
    `import { workerData } from 'node:worker_threads';
     const { ChunkRingWriter } = await import(workerData.module);
     const ring = new ChunkRingWriter(workerData.buffer);
     for (let n = 0; n < ${chunks}; n++) {
       ring.open(n);
       ring.put(n, Buffer.alloc(${PAGE_SIZE}, n));
       ring.publish(1);
     }`,
    {
      eval: true,
      workerData: {
        buffer,
        module: new URL('../../lib/pages/chunk-ring.ts', import.meta.url).href,
      },
    },
  );
  const exit = once(writer, 'exit');
  const reader = new ChunkRingReader(buffer);
  const into = Buffer.alloc(CHUNK_SIZE);
  for (let n = 0; n < chunks; n++) {
    const { chunk, offsets } = await reader.take(into);
    expect([chunk, offsets]).toEqual([n, [n]]);
    const at = n * PAGE_SIZE;
    expect(into.subarray(at, at + PAGE_SIZE).equals(Buffer.alloc(PAGE_SIZE, n))).toBe(true);
  }
  expect(await exit).toEqual([0]);
});
