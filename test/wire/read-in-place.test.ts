import { once } from 'node:events';
import net from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { readInPlace } from '../../lib/wire/read-in-place.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A connection whose accepted end reads in place. */
async function connected(
  placeOf?: () => Buffer | undefined,
): Promise<{ here: net.Socket; there: net.Socket }> {
  const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const there = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  const here = readInPlace((await accepted)[0], placeOf);
  server.close();
  for (const socket of [here, there]) {
    socket.on('error', () => {});
    ends.push(() => socket.destroy());
  }
  return { here, there };
}

test('every byte comes once and in order, in memory that is used again, up to the end', async () => {
  const { here, there } = await connected();
  const memories = new Set<ArrayBufferLike>();
  let at = 0;
  here.on('data', (bytes: Buffer) => {
    memories.add(bytes.buffer);
    for (const byte of bytes) if (byte !== at++ % 251) throw new Error(`byte ${at - 1} is wrong`);
  });
  const ended = once(here, 'end');
  const content = Buffer.from(Array.from({ length: 3_000_017 }, (_, i) => i % 251));
  for (let from = 0, step = 1; from < content.length; from += step, step = (step * 7) % 100_003)
    if (!there.write(content.subarray(from, from + step))) await once(there, 'drain');
  there.end();
  await ended;
  expect(at).toBe(content.length);
  expect(memories.size).toBe(1);
});

test('what is read comes where it is wanted, and elsewhere when nothing is', async () => {
  const target = Buffer.alloc(1_000_000);
  let at = 0;
  let elsewhere = 0;
  const { here, there } = await connected(() => (at === 0 ? undefined : target.subarray(at)));
  here.on('data', (bytes: Buffer) => {
    if (bytes.buffer !== target.buffer) elsewhere += bytes.copy(target, at);
    else expect(bytes.byteOffset).toBe(target.byteOffset + at);
    at += bytes.length;
  });
  const content = Buffer.from(Array.from(target, (_, i) => i % 251));
  there.write(content);
  await expect.poll(() => at, { timeout: 100_000 }).toBe(content.length);
  expect(target.equals(content)).toBe(true);
  expect(elsewhere).toBeGreaterThan(0);
  expect(elsewhere).toBeLessThan(100_000);
});

test('it writes, knows its peer, and holds the peer up while it is paused', async () => {
  const { here, there } = await connected();
  let heard = 0;
  here.on('data', ({ length }: Buffer) => {
    heard += length;
  });
  expect(here.remotePort).toBe(there.localPort);
  here.write('hello');
  const [word] = await once(there, 'data');
  expect(`${word}`).toBe('hello');
  here.pause();
  const much = 64 << 20;
  there.write(Buffer.alloc(much));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(heard).toBe(0);
  here.resume();
  await expect.poll(() => heard, { timeout: 100_000 }).toBe(much);
});

test('it is closed when it is destroyed, and when the peer is gone', async () => {
  const first = await connected();
  first.here.on('data', () => {});
  const closedThere = once(first.there, 'close');
  first.there.resume();
  first.here.destroy();
  await closedThere;
  const second = await connected();
  second.here.on('data', () => {});
  const closedHere = new Promise((resolve) => second.here.once('close', resolve));
  second.there.resetAndDestroy();
  await closedHere;
});

test('a socket without the handle that is looked for reads as all others do', async () => {
  const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const there = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  const [socket] = await accepted;
  ends.push(
    () => there.destroy(),
    () => socket.destroy(),
    () => server.close(),
  );
  const masked = new Proxy(socket, {
    get: (target, key) => {
      if (key === '_handle') return undefined;
      const value = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const here = readInPlace(masked);
  const data = once(here, 'data');
  there.write('hello');
  expect(`${(await data)[0]}`).toBe('hello');
});
