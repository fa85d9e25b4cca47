import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { ControlClient } from '../../lib/cli/client.ts';
import { aView, FakeBackend } from '../api/fake-backend.ts';
import { halt } from '../halt.ts';

/** Daemons that stand still, as a client and as the next daemon meet them. */

let dir = '';
let socket = '';
let daemon: ChildProcess | undefined;
const servers: net.Server[] = [];

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-client-'));
  socket = path.join(dir, 'agent.sock');
});

afterEach(async () => {
  daemon?.kill('SIGKILL');
  daemon = undefined;
  for (const server of servers.splice(0)) server.close();
  fs.rmSync(dir, { recursive: true });
});

/** Says that much to whoever asks, and then nothing. */
async function mute(words: string): Promise<ControlClient> {
  const server = net.createServer((connection) => {
    connection.on('error', () => {}).resume();
    connection.write(words);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return new ControlClient(socket, 'agent-send', 200);
}

/** A server of one route in a process of its own. */
async function elsewhere(script: string): Promise<ChildProcess> {
  daemon = spawn(process.execPath, ['-e', script, socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => daemon!.stdout!.once('data', resolve));
  return daemon;
}

const STANDS_STILL = {
  code: 'daemon-unreachable',
  message: expect.stringMatching(/has said nothing for 200 ms: does it stand still\?$/),
};

test('a daemon that does not answer is given up with a sentence', async () => {
  await expect((await mute('')).request('GET', '/migrations')).rejects.toMatchObject(STANDS_STILL);
});

test('and so is one that falls silent in the middle', async () => {
  const view = `event: view\ndata: ${JSON.stringify(aView())}\n\n`;
  const client = await mute(`HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n${view}`);
  const seen: number[] = [];
  const following = (async () => {
    for await (const { round } of client.events('4f2a')) seen.push(round);
  })();
  await expect(following).rejects.toMatchObject(STANDS_STILL);
  expect(seen).toEqual([2]);
});

test('a client that was stopped itself does not take its own silence for the daemon\u2019s', async () => {
  await elsewhere(`
    require('node:http').createServer((request, response) => {
      let round = 0;
      const view = () => response.write('data: ' + JSON.stringify({ round: ++round }) + '\\n\\n');
      view();
      setInterval(view, 50);
    }).listen(process.argv[1], () => console.log('ready'));`);
  let views = 0;
  for await (const _ of new ControlClient(socket, 'agent-send', 1000).events('4f2a')) {
    // As long as it stands still here nothing is read, whatever comes.
    if (++views === 2) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500);
    if (views > 80) break; // some three seconds after it has gone on
  }
  expect(views).toBeGreaterThan(80);
});

test('the socket of a daemon that stands still is not taken from it', async () => {
  const stopped = await elsewhere(`
    require('node:net').createServer().listen({ path: process.argv[1], backlog: 1 },
      () => console.log('ready'));`);
  await halt(stopped.pid!);
  const clients = Array.from({ length: 8 }, () => net.connect(socket).on('error', () => {}));
  const backend = new FakeBackend();
  try {
    await expect(ControlServer.open(socket, backend)).rejects.toMatchObject({
      code: 'listen-failed',
      message: expect.stringContaining('another daemon serves the control socket'),
    });
    expect(fs.lstatSync(socket).isSocket()).toBe(true);
  } finally {
    for (const client of clients) client.destroy();
    backend.remove();
  }
});

test('a daemon that ends a connection after its answer, late, does not fail the next question', async () => {
  const answer = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]';
  const server = net.createServer((connection) => {
    let asked = false;
    connection
      .on('error', () => {})
      .on('data', () => {
        if (asked) return connection.destroy();
        asked = true;
        connection.write(answer);
      });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const client = new ControlClient(socket, 'agent-send');
  for (let n = 0; n < 3; n++) expect(await client.request('GET', '/migrations')).toEqual([]);
});
