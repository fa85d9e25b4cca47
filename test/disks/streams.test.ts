import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Streams } from '../../lib/disks/streams.ts';
import type { Received } from '../../lib/wire/connection.ts';

let dir: string;
let near: Streams;
let far: Streams;
let servers: net.Server[];
let sent: number;
let over: AbortController;

/** Carries at once what the other side takes later, as long as the test lasts. */
function link(to: () => Streams) {
  let sequence = 0;
  const mine = over;
  return {
    ready: async () => {},
    send: (kind: string, message: object, payload: readonly Uint8Array[] = []) => {
      const bytes = Buffer.concat(payload);
      const received = { kind, message, sequence, payload: bytes } as unknown as Received;
      setImmediate(() => mine.signal.aborted || to().take(received));
      return sequence++;
    },
  };
}

beforeEach(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-streams-'));
  sent = 0;
  over = new AbortController();
  const [toFar, toNear] = [link(() => far), link(() => near)];
  near = new Streams({
    link: () => toFar,
    pass: async () => {},
    onSent: (bytes) => {
      sent += bytes;
    },
    greetingLimitMs: 50,
  });
  const accept = () => net.connect(path.join(dir, 'there'));
  far = new Streams({ link: () => toNear, pass: async () => {}, accept });
  const here = net.createServer((socket) => near.add(socket));
  await once(here.listen(path.join(dir, 'here')), 'listening');
  servers = [here];
});
afterEach(() => {
  over.abort();
  near.close();
  far.close();
  for (const server of servers) server.close();
  fs.rmSync(dir, { recursive: true });
});

/** What a hypervisor does with who connects. */
async function serve(on: (socket: net.Socket) => void): Promise<void> {
  const server = net.createServer(on);
  await once(server.listen(path.join(dir, 'there')), 'listening');
  servers.push(server);
}

function connect(): net.Socket {
  return net.connect(path.join(dir, 'here'));
}

async function all(socket: net.Socket): Promise<string> {
  let text = '';
  for await (const bytes of socket) text += bytes;
  return text;
}

test('connections are told apart, whoever speaks first, and end on both sides', async () => {
  await serve((socket) => {
    socket.write('hello ');
    socket.on('data', (bytes) => socket.end(`and ${bytes}`));
  });
  const both = [connect(), connect()];
  for (const [i, socket] of both.entries()) socket.write(`${i}`);
  expect(await Promise.all(both.map(all))).toEqual(['hello and 0', 'hello and 1']);
  expect(sent).toBe(2);
});

test('a connection that nobody takes there ends here', async () => {
  expect(await all(connect())).toBe('');
});

test('who hears nothing is let go after a while', async () => {
  await serve(() => {});
  expect(await all(connect())).toBe('');
});

test.each([
  ['a connection that was never opened', { stream: 2 }, 'x', /no connection 2/],
  ['one that no side can have', { stream: 0 }, '', /no connection 0/],
  ['bytes for one that is not open', { stream: 1 }, 'x', /no connection 1/],
])('%s ends the migration', (_, message, text, why) => {
  const received = { kind: 'DiskBytes', message, sequence: 0, payload: Buffer.from(text) };
  expect(() => far.take(received as Received)).toThrow(why);
  expect(() => near.take(received as Received)).toThrow(why);
});

test('what nobody reads is bounded', async () => {
  await serve((socket) => socket.pause());
  const take = (payload: Buffer) =>
    far.take({ kind: 'DiskBytes', message: { stream: 1 }, sequence: 0, payload } as Received);
  take(Buffer.alloc(0));
  const piece = Buffer.alloc(256 << 10);
  const flood = () => {
    for (let i = 0; i < 300; i++) take(piece);
  };
  expect(flood).toThrow(/more was sent to a disk/);
});
