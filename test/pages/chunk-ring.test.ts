import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { ChunkRingReader, ChunkRingWriter, newRing } from '../../lib/pages/chunk-ring.ts';
import { PageHash } from '../../lib/pages/hash.ts';

const SEED = 0xfedc_ba98_7654_3210n;
const hash = new PageHash(SEED);
const page = (seed: number) => Buffer.alloc(PAGE_SIZE, `page ${seed};`);

test('every page comes out where it was put, the latest of its kind, whether there was room or not', async () => {
  const put = fc.record({ offset: fc.nat(255), seed: fc.option(fc.nat(1000)) });
  const chunks = fc.array(fc.array(put, { minLength: 1, maxLength: 40 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(chunks, fc.boolean(), fc.boolean(), async (all, ahead, inOneThread) => {
      const buffer = newRing(3, SEED, inOneThread);
      const writer = new ChunkRingWriter(buffer);
      const reader = new ChunkRingReader(buffer);
      const expected = all.map(
        (puts) =>
          new Map(puts.map(({ offset, seed }) => [offset, seed === null ? null : page(seed)])),
      );
      const write = (n: number) => {
        writer.open(n * 7);
        for (const { offset, seed } of all[n]!)
          if (seed === null) writer.zero(offset);
          else writer.put(offset, Buffer.concat([page(seed), page(seed + 1)]), 0);
        writer.publish(n + 1);
        expect(writer.published).toBe(n + 1);
      };
      if (ahead) for (const n of all.keys()) write(n);
      expect(writer.isFull).toBe(ahead && all.length > 3);
      const room = writer.room();
      for (const n of all.keys()) {
        if (!ahead) write(n);
        const { chunk, round, offsets, zeros, pages, hashes } = await reader.take();
        expect([chunk, round]).toEqual([n * 7, n + 1]);
        expect(offsets).toEqual([...expected[n]!.keys()].sort((a, b) => a - b));
        for (const [offset, bytes] of expected[n]!) {
          const at = offset * PAGE_SIZE;
          expect(zeros.has(offset)).toBe(bytes === null);
          if (bytes === null) continue;
          expect(pages.subarray(at, at + PAGE_SIZE).equals(bytes)).toBe(true);
          expect(hashes[offset]).toBe(hash.of(bytes));
        }
        reader.free(n + 1);
      }
      await room;
      expect(writer.isFull).toBe(false);
    }),
    { numRuns: 60 },
  );
});

test.each([false, true])('a slot is not written again before it is freed', async (inOneThread) => {
  const buffer = newRing(2, 0n, inOneThread);
  const [writer, reader] = [new ChunkRingWriter(buffer), new ChunkRingReader(buffer)];
  for (let n = 0; n < 3; n++) {
    writer.open(n);
    writer.put(0, page(n), 0);
    writer.publish(1);
  }
  const first = await reader.take();
  await reader.take();
  void writer.room();
  await new Promise(setImmediate);
  expect(first.pages.subarray(0, PAGE_SIZE).equals(page(0))).toBe(true);
  reader.free(1);
  expect((await reader.take()).chunk).toBe(2);
  expect(first.pages.subarray(0, PAGE_SIZE).equals(page(2))).toBe(true);
});

test('a full ring holds its writer in another thread up, and loses nothing', async () => {
  const buffer = newRing(4, 0n);
  const chunks = 200;
  const writer = new Worker(
    `import { workerData } from 'node:worker_threads';
     const { ChunkRingWriter } = await import(workerData.module);
     const ring = new ChunkRingWriter(workerData.buffer);
     const alive = setInterval(() => {}, 1000);
     for (let n = 0; n < ${chunks}; n++) {
       ring.open(n);
       ring.put(n, Buffer.alloc(${PAGE_SIZE}, n), 0);
       ring.publish(1);
       await ring.room();
     }
     clearInterval(alive);`,
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
  for (let n = 0; n < chunks; n++) {
    const { chunk, offsets, pages } = await reader.take();
    expect([chunk, offsets]).toEqual([n, [n]]);
    const at = n * PAGE_SIZE;
    expect(pages.subarray(at, at + PAGE_SIZE).equals(Buffer.alloc(PAGE_SIZE, n))).toBe(true);
    reader.free(n + 1);
  }
  expect(await exit).toEqual([0]);
});

test.each([false, true])('either end waits no more when it is over', async (inOneThread) => {
  const buffer = newRing(1, 0n, inOneThread);
  const [writer, reader] = [new ChunkRingWriter(buffer), new ChunkRingReader(buffer)];
  const taking = reader.take();
  reader.end();
  await expect(taking).rejects.toMatchObject({ code: 'cancelled' });
  for (const n of [0, 1]) {
    writer.open(n);
    writer.publish(1);
  }
  const room = writer.room();
  writer.end();
  await room;
  expect(writer.isFull).toBe(true);
});
