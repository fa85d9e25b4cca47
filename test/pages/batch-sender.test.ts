import { expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { Random } from '../../lib/guest/simulated/random.ts';
import { CHUNK_PAGES, CHUNK_SIZE, GuestLayout, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { BatchEncoder } from '../../lib/pages/batch-encoder.ts';
import { BatchSender } from '../../lib/pages/batch-sender.ts';
import { COUNTERS_SIZE, Counters } from '../../lib/pages/counters.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { HashTable } from '../../lib/pages/hash-table.ts';
import { PACER_SIZE, Pacer } from '../../lib/pages/pacer.ts';
import { SendWindow } from '../../lib/pages/send-window.ts';
import type { Link } from '../../lib/wire/link.ts';
import type { PageBatch } from '../../lib/wire/messages.ts';

const CHUNKS = 400;
const [WHOLE, ONE] = [Array.from({ length: CHUNK_PAGES }, (_, i) => i), [0]];

test('batches go out in their order, though a small one is compressed long before the large one ahead of it', async () => {
  const layout = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: CHUNKS * CHUNK_PAGES }]);
  const hash = new PageHash(1n);
  const [window, pacer] = [new SendWindow(4), new Pacer(new SharedArrayBuffer(PACER_SIZE))];
  const sent: PageBatch[] = [];
  let isBroken = false;
  const send = (_kind: string, message: PageBatch) => {
    if (isBroken) throw new GodwitError('peer-closed', 'the link has ended');
    const sequence = sent.push(message) - 1;
    setImmediate(() => {
      window.acknowledge(sequence);
      sender.acknowledged(sequence, 0);
    });
    return sequence;
  };
  const failures: unknown[] = [];
  const sender = new BatchSender({
    encoder: new BatchEncoder(hash, new HashTable(layout, 0, 1)),
    compression: 'auto',
    window,
    pacer,
    counters: new Counters(new SharedArrayBuffer(COUNTERS_SIZE)),
    link: () => ({ send }) as unknown as Link,
    busy: () => 0,
    onFailure: (error) => failures.push(error),
  });
  const random = new Random(7);
  const put = async (chunk: number, offsets: number[]) => {
    const slot = await window.take();
    const pages = Buffer.alloc(CHUNK_SIZE);
    for (const offset of offsets)
      for (let at = 0; at < PAGE_SIZE / 2; at += 4)
        pages.writeUInt32LE(random.below(2 ** 32), offset * PAGE_SIZE + at);
    await sender.send({ round: 1, chunk, offsets, pages }, slot);
  };

  let chunk = 0;
  pacer.setRate(8 << 20); // the link is what takes the time, however busy the machine is
  while (!sent.at(-1)?.rawCompressed && chunk < CHUNKS / 2) await put(chunk++, WHOLE);
  const from = chunk;
  while (chunk < from + 20) await put(chunk, chunk++ % 2 === 0 ? WHOLE : ONE);
  await sender.allSent();

  expect(sent.map((batch) => batch.chunk)).toEqual(Array.from({ length: chunk }, (_, i) => i));
  expect(sent.slice(from).filter(({ rawCompressed }) => rawCompressed).length).toBeGreaterThan(2);
  await window.drained();
  expect(failures).toEqual([]);

  // One that cannot be sent is told of, and nothing goes out behind it.
  isBroken = true;
  await put(chunk++, WHOLE).catch(() => {});
  await put(chunk++, WHOLE).catch(() => {});
  await expect(sender.allSent()).rejects.toMatchObject({ message: 'the link has ended' });
  expect(failures[0]).toMatchObject({ message: 'the link has ended' });
  expect(sent.length).toBe(chunk - 2);
});
