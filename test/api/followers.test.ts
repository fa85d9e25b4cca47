import http from 'node:http';
import net from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { EXIT } from '../../lib/exit.ts';
import { type Running, start } from '../cli/run.ts';
import { aView, ended, FakeBackend } from './fake-backend.ts';

/** Followers of a migration that do not read, or go away in the middle. */

const MANY = 4000;
/** A view as long as a peer's words can make it. */
const LONG = 'x'.repeat(4000);

let agent: FakeBackend;
let server: ControlServer;
let follower: Running | undefined;

beforeEach(async () => {
  // Heartbeats come when a test says so; everything else is by the real clock.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  agent = new FakeBackend();
  server = await ControlServer.open(agent.socket, agent);
});

afterEach(async () => {
  vi.useRealTimers();
  if (follower?.child.exitCode === null) follower.child.kill('SIGKILL');
  await follower?.ended;
  follower = undefined;
  await server.close();
  agent.remove();
});

function heartbeats(count: number): Promise<unknown> {
  return vi.advanceTimersByTimeAsync(count * 15_000);
}

/** More views than any socket holds, and turns of the event loop for them to be written. */
async function floodWith(round: number): Promise<void> {
  for (let n = 0; n < MANY; n++) {
    agent.becomes(aView({ round, elapsedMs: n, message: LONG }));
    if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A client of the event stream that reads only when it is told to. */
async function lazyClient() {
  const socket = net.connect(agent.socket);
  socket.on('error', () => {});
  let text = '';
  socket.write('GET /migrations/4f2a/events HTTP/1.1\r\nhost: x\r\n\r\n');
  await new Promise<void>((resolve) => socket.once('readable', resolve));
  const read = () => socket.setEncoding('utf8').on('data', (piece) => (text += piece));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return { socket, read, closed, text: () => text };
}

function follow(): Running {
  follower = start('agent-send', ['migrate', 'vm1', 'hostb', '--json', '--socket', agent.socket]);
  return follower;
}

test('a follower that is stopped does not keep the server from closing', async () => {
  const { child, saw, ended: left } = follow();
  await saw('"round":2');
  child.kill('SIGSTOP');
  await floodWith(3);
  agent.becomes(ended('completed'));
  await heartbeats(3);
  await server.close();
  server = await ControlServer.open(agent.socket, agent);
  child.kill('SIGCONT');
  await left;
});

test('a follower that goes on gets the end of a migration that ended meanwhile', async () => {
  const { child, saw, ended: left } = follow();
  await saw('"round":2');
  child.kill('SIGSTOP');
  await floodWith(3);
  agent.becomes(ended('completed'));
  await heartbeats(3);
  child.kill('SIGCONT');
  const { code, stdout } = await left;
  expect(code).toBe(EXIT.completed);
  expect(JSON.parse(stdout.trimEnd().split('\n').at(-1)!).outcome).toBe('completed');
  await expect.poll(() => agent.watchers).toBe(0);
});

test('a client that reads again gets the newest view, without waiting for a change', async () => {
  const client = await lazyClient();
  await floodWith(3);
  agent.becomes(aView({ round: 4 }));
  await heartbeats(3);
  client.read();
  await expect.poll(client.text).toContain('"round":4');
  // What it was spared: thousands of views of some 5 kB each.
  expect(client.text().length).toBeLessThan(2 << 20);
  agent.becomes(ended('completed'));
  await client.closed;
  expect(client.text().match(/^event: end/gm)).toHaveLength(1);
});

test('clients that reset their connection at any moment leave nothing behind', async () => {
  for (let n = 0; n < 20; n++) {
    const client = await lazyClient();
    const flood = floodWith(n);
    if (n % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
    client.socket.destroy();
    await flood;
    await heartbeats(1);
  }
  agent.becomes(ended('completed'));
  await expect.poll(() => agent.watchers).toBe(0);
});

test('a client that resets before its answer is ready does no harm', async () => {
  const answer = Promise.withResolvers<void>();
  agent.guests = async () => {
    await answer.promise;
    return [];
  };
  const asked = http.get({ socketPath: agent.socket, path: '/guests', agent: false });
  asked.on('error', () => {});
  await expect.poll(() => asked.socket?.bytesWritten).toBeGreaterThan(0);
  asked.destroy();
  await new Promise((resolve) => setImmediate(resolve));
  answer.resolve();
  const again = http.get({ socketPath: agent.socket, path: '/healthz', agent: false });
  const status = await new Promise((resolve) =>
    again.on('response', (response) => resolve(response.resume().statusCode)),
  );
  expect(status).toBe(200);
});
