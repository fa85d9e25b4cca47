import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CHUNK_PAGES, CHUNK_SIZE, GuestLayout } from '../../lib/memory/guest-layout.ts';
import { PageSet } from '../../lib/memory/page-set.ts';
import { StateSpool } from '../../lib/memory/state-spool.ts';
import { ReceivePool } from '../../lib/pages/receive-pool.ts';
import { SendPool } from '../../lib/pages/send-pool.ts';
import { slotsPerLane } from '../../lib/pages/send-window.ts';
import { crewOfTest } from '../crew/crew-of-test.ts';

const MIGRATIONS = 64;
const CHUNKS = 64;
/** Of each guest, in its first chunks; the rest is zeros. */
const CONTENT_CHUNKS = 8;
const LANES = 2;
/** Agent memory for one migration of a guest of 64 MiB, on either side. */
const MOST_BYTES = 8 << 20;

const crew = crewOfTest();
const region = { name: 'ram', firstPfn: 0, pages: CHUNKS * CHUNK_PAGES };
const layout = new GuestLayout([region]);
let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync('/dev/shm/godwit-many-');
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

/** All guests have the same memory here, at their source and at their destination. */
function ramFile(name: string, content: Buffer) {
  const path = `${dir}/${name}`;
  fs.writeFileSync(path, content);
  fs.truncateSync(path, CHUNKS * CHUNK_SIZE);
  return [{ region, path, offset: 0 }];
}

test('64 migrations of 64 MiB at once take no thread and at most 8 MiB each', {
  timeout: 600_000,
}, async () => {
  await crew.started();
  const threads = () => fs.readdirSync('/proc/self/task').length;
  const before = { threads: threads(), rss: process.memoryUsage.rss() };
  const content = randomBytes(CONTENT_CHUNKS * CHUNK_SIZE);
  const [source, destination] = [
    ramFile('source', content),
    ramFile('destination', Buffer.alloc(0)),
  ];
  const failures: unknown[] = [];
  const onFailure = (error: unknown) => failures.push(error);
  const pairs = await Promise.all(
    Array.from({ length: MIGRATIONS }, async (_, i) => {
      const [from, to] = [StateSpool.open(dir, 1), StateSpool.open(dir, LANES)];
      const session = {
        ...{
          crew,
          migration: `${i}`.padStart(16, '0'),
          secret: randomBytes(16),
          hashSeed: BigInt(i),
        },
        ...{ layout, onFailure },
      };
      const receiver = new ReceivePool({
        ...session,
        ...{ lanes: LANES, listenHost: '127.0.0.1', credentials: undefined, senderFingerprint: '' },
        ...{ dataPorts: undefined, memory: destination, arrivals: undefined, state: to.share },
        ...{ tellsLoad: true, peerTimeoutMs: 5000 },
      });
      const sender = new SendPool({
        ...session,
        ...{ host: '127.0.0.1', ports: await receiver.listen(), connectTimeoutMs: 60_000 },
        ...{ security: { credentials: undefined, insecure: false }, stallTimeoutMs: 600_000 },
        ...{ reconnectTimeoutMs: 60_000, pagesOf: () => ({ memory: source }), compression: 'off' },
        ...{ window: slotsPerLane(layout, LANES, 8), bandwidth: undefined, state: from.share },
      });
      await sender.open();
      return { sender, receiver, spools: [from, to] };
    }),
  );
  await Promise.all(
    pairs.map(async ({ sender }) => {
      const all = new PageSet(layout.pfnEnd);
      all.addAll(layout);
      expect(await sender.sendRound(1, all)).toBe(false);
    }),
  );
  const grown = {
    threads: threads() - before.threads,
    rss: process.memoryUsage.rss() - before.rss,
  };
  for (const { sender, receiver } of pairs)
    expect(await sender.digest()).toEqual(await receiver.digest());
  await Promise.all(pairs.flatMap(({ sender, receiver }) => [sender.close(), receiver.close()]));
  for (const { spools } of pairs) for (const spool of spools) spool.close();
  expect(fs.readFileSync(destination[0]!.path).subarray(0, content.length).equals(content)).toBe(
    true,
  );
  expect(failures).toEqual([]);
  expect(grown.threads).toBe(0);
  const both = 2 * MIGRATIONS * MOST_BYTES;
  expect(grown.rss).toBeLessThan(both);
});
