import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { GodwitError } from '../../lib/errors.ts';
import { aView, ended, FakeBackend } from './fake-backend.ts';

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(backend = new FakeBackend()): Promise<FakeBackend> {
  cleanups.push(() => backend.remove());
  const server = await ControlServer.open(backend.socket, backend);
  cleanups.push(() => server.close());
  return backend;
}

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly json: { error: { code: string; message: string } } & Record<string, unknown>;
}

function ask(
  { socket }: FakeBackend,
  method: string,
  url: string,
  body?: string | object,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const options = { socketPath: socket, method, path: url, agent: false };
  const request = http.request(options, async (response) => {
    let text = '';
    for await (const piece of response.setEncoding('utf8')) text += piece;
    const { statusCode = 0, headers } = response;
    const isJson = headers['content-type'] === 'application/json';
    resolve({ status: statusCode, headers, text, json: isJson ? JSON.parse(text) : {} });
  });
  request.on('error', reject);
  request.end(typeof body === 'object' ? JSON.stringify(body) : body);
  return promise;
}

const REQUEST = { guest: 'vm1', host: 'hostb', port: 7070 };
const JSON_VIEW = JSON.parse(JSON.stringify(aView()));

test('every route of a sender answers', async () => {
  const agent = await serve();
  const id = aView().id;
  fs.writeFileSync(agent.ledgerFile(id), '{"type":"start"}\n{"type":"end"}\n');

  const health = await ask(agent, 'GET', '/healthz');
  expect([health.status, health.json]).toEqual([
    200,
    { status: 'ok', role: 'send', needsResolve: [] },
  ]);

  const metrics = await ask(agent, 'GET', '/metrics');
  expect(metrics.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(metrics.text).toContain('godwit_migrations_total{outcome="completed"} 3\n');

  const list = await ask(agent, 'GET', '/migrations');
  expect([list.status, list.json]).toEqual([200, { migrations: [JSON_VIEW] }]);

  const show = await ask(agent, 'GET', '/migrations/4f2a?pretty');
  expect([show.status, show.json]).toEqual([200, JSON_VIEW]);

  const guests = await ask(agent, 'GET', '/guests');
  expect(guests.json.guests).toEqual(await agent.guests());

  const ledger = await ask(agent, 'GET', `/migrations/${id}/ledger`);
  expect(ledger.headers['content-type']).toBe('application/x-ndjson');
  expect(ledger.text).toBe('{"type":"start"}\n{"type":"end"}\n');

  expect((await ask(agent, 'POST', '/migrations', REQUEST)).status).toBe(201);
  const checked = await ask(agent, 'POST', '/checks', REQUEST);
  expect([checked.status, checked.json.expected]).toEqual([200, 'unknown']);
  expect((await ask(agent, 'PATCH', '/migrations/4f2a', { timeoutMs: null })).status).toBe(200);
  expect((await ask(agent, 'POST', '/migrations/4f2a/cutover')).status).toBe(202);
  expect((await ask(agent, 'POST', '/migrations/4f2a/cutover', { force: true })).status).toBe(202);
  expect((await ask(agent, 'POST', '/migrations/4f2a/cancel')).status).toBe(202);
  expect(agent.calls).toEqual([
    ['start', { ...REQUEST, policy: 'contract', limits: {}, compression: 'auto', verify: false }],
    ['check', { ...REQUEST, policy: 'contract', limits: {}, compression: 'auto', verify: false }],
    ['change', '4f2a', { timeoutMs: null }],
    ['cutover', '4f2a'],
    ['cutover', '4f2a', 'force'],
    ['cancel', '4f2a'],
  ]);
});

test('a daemon is not well while a migration waits for a person', async () => {
  const waitsFor = "the destination's word whether it runs the guest: no route to hostb";
  const stuck = aView({
    phase: 'handover',
    ownership: 'committed',
    outcome: 'needs-resolve',
    waitsFor,
  });
  const agent = await serve(new FakeBackend(stuck));
  const { status, json } = await ask(agent, 'GET', '/healthz');
  expect([status, json]).toEqual([
    503,
    {
      status: 'needs-resolve',
      role: 'send',
      needsResolve: [
        {
          id: stuck.id,
          guest: 'vm1',
          message: expect.stringMatching(
            /^the guest is suspended here; .*; waits for the dest.*hostb$/,
          ),
        },
      ],
    },
  ]);
  agent.becomes(ended('completed'));
  expect((await ask(agent, 'GET', '/healthz')).status).toBe(200);
});

test('a receiver has no route that only a sender can answer', async () => {
  const agent = await serve(new FakeBackend(aView({ role: 'receive' }), 'receive'));
  expect((await ask(agent, 'GET', '/healthz')).json.role).toBe('receive');
  expect((await ask(agent, 'GET', '/migrations/4f2a')).status).toBe(200);
  for (const [method, url, status] of [
    ['POST', '/migrations', 405],
    ['PATCH', '/migrations/4f2a', 405],
    ['POST', '/migrations/4f2a/cutover', 404],
    ['GET', '/migrations/4f2a/ledger', 404],
    ['GET', '/guests', 404],
    ['POST', '/checks', 404],
  ] as const)
    expect([url, (await ask(agent, method, url)).status]).toEqual([url, status]);
  expect(agent.calls).toEqual([]);
});

test.each([
  ['GET', '/', 404, 'bad-request'],
  ['GET', '/nothing', 404, 'bad-request'],
  ['GET', '//', 404, 'bad-request'],
  ['GET', '/migrations/', 404, 'bad-request'],
  ['GET', '/migrations/4f2a/constructor', 404, 'bad-request'],
  ['GET', '/migrations/4f2a/cancel/more', 404, 'bad-request'],
  ['DELETE', '/migrations/4f2a', 405, 'bad-request'],
  ['GET', '/migrations/4f2a/cancel', 405, 'bad-request'],
  ['GET', '/guests/vm1', 404, 'bad-request'],
  ['PATCH', '/guests/vm1/profile', 405, 'bad-request'],
  ['GET', '/guests/vm9/profile', 404, 'unknown-profile'],
  ['GET', '/guests/..%2fvm1/profile', 404, 'unknown-guest'],
  ['DELETE', '/guests/%zz/profile', 404, 'unknown-guest'],
  ['GET', '/migrations/ffff', 404, 'unknown-migration'],
  ['GET', '/migrations/%zz', 404, 'unknown-migration'],
  ['GET', '/migrations/..%2f..', 404, 'unknown-migration'],
  ['GET', '/migrations/ffff/events', 404, 'unknown-migration'],
  ['GET', '/migrations/4f2a/ledger', 404, 'unknown-migration'],
  ['POST', '/migrations/ffff/cancel', 404, 'unknown-migration'],
])('%s %s is refused with %i and %s', async (method, url, status, code) => {
  const agent = await serve();
  const answer = await ask(agent, method, url);
  expect([answer.status, answer.json.error.code]).toEqual([status, code]);
});

test('a method that a path does not take is told which it does', async () => {
  const agent = await serve();
  expect((await ask(agent, 'PUT', '/migrations')).headers.allow).toBe('GET, POST');
});

test.each([
  ['', 'bad-request'],
  ['{', 'bad-request'],
  ['\0\xff garbage', 'bad-request'],
  ['null', 'bad-option'],
  ['[]', 'bad-option'],
  ['"vm1"', 'bad-option'],
  ['{"__proto__":{"guest":"vm1"}}', 'bad-option'],
  ['{"guest":"vm1","host":"h","port":7070,"limits":{"maxSuspendMs":1}}', 'bad-option'],
])('body %j is refused with 400 and %s, and the server lives on', async (body, code) => {
  const agent = await serve();
  for (const [method, url] of [
    ['POST', '/migrations'],
    ['POST', '/checks'],
    ['PATCH', '/migrations/4f2a'],
  ] as const) {
    const answer = await ask(agent, method, url, body);
    expect([answer.status, answer.json.error.code]).toEqual([400, code]);
  }
  expect(agent.calls).toEqual([]);
  expect((await ask(agent, 'GET', '/healthz')).status).toBe(200);
});

test('a body above 64 KiB is refused with 413, one just below is read', async () => {
  const agent = await serve();
  const padded = (bytes: number) => JSON.stringify(REQUEST).padEnd(bytes);
  expect((await ask(agent, 'POST', '/migrations', padded(65_536))).status).toBe(201);
  const answer = await ask(agent, 'POST', '/migrations', padded(65_537));
  expect([answer.status, answer.json.error.code]).toEqual([413, 'bad-request']);
  expect((await ask(agent, 'POST', '/migrations', padded(4 << 20))).status).toBe(413);
  expect(agent.calls).toHaveLength(1);
});

test.each([
  ['guest-busy', 409],
  ['unknown-guest', 404],
  ['shutting-down', 503],
  ['memory-insufficient', 422],
  ['internal', 500],
] as const)('an error %s of the daemon has status %i', async (code, status) => {
  const agent = await serve();
  agent.refuseStart =
    code === 'internal' ? new TypeError('oops') : new GodwitError(code, 'because');
  const answer = await ask(agent, 'POST', '/migrations', REQUEST);
  expect(answer.status).toBe(status);
  expect(answer.json.error).toEqual({
    code,
    message: code === 'internal' ? 'internal error: oops' : 'because',
  });
});

test('bytes that are no HTTP get a 400 and hurt nobody', async () => {
  const agent = await serve();
  for (const garbage of ['\x16\x03\x01\x02\0\x01', 'GET\r\n\r\n', `GET /${'a'.repeat(1 << 20)}`]) {
    const socket = net.connect(agent.socket);
    socket.on('error', () => {});
    socket.end(garbage, 'latin1');
    await new Promise((resolve) => socket.once('close', resolve).resume());
  }
  expect((await ask(agent, 'GET', '/healthz')).status).toBe(200);
});

/** The event stream of the migration: what came, and a way to wait for text. */
async function listen(agent: FakeBackend) {
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  const options = { socketPath: agent.socket, path: '/migrations/4f2a/events', agent: false };
  const request = http.get(options, resolve).on('error', reject);
  const response = await promise;
  let text = '';
  let wake = () => {};
  response.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
    wake();
  });
  const closed = new Promise<void>((resolve) => response.once('end', resolve));
  const has = async (wanted: string) => {
    while (!text.includes(wanted)) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { request, response, closed, has, events: () => text.match(/^event: \w+/gm) };
}

test('events: the view of now, of each change, and the end', async () => {
  const agent = await serve();
  const stream = await listen(agent);
  expect(stream.response.headers['content-type']).toBe('text/event-stream');
  await stream.has('"round":2');
  agent.becomes(aView({ round: 3 }));
  await stream.has('"round":3');
  agent.becomes(ended('completed'));
  agent.becomes(ended('completed')); // a second end is no second event
  await stream.closed;
  expect(stream.events()).toEqual(['event: view', 'event: view', 'event: end']);
  await expect.poll(() => agent.watchers).toBe(0);
});

test('events of a migration that has ended are its end', async () => {
  const agent = await serve(new FakeBackend(ended('failed')));
  const stream = await listen(agent);
  await stream.closed;
  expect(stream.events()).toEqual(['event: end']);
});

test('a client that goes away is no longer watched for', async () => {
  const agent = await serve();
  const stream = await listen(agent);
  await stream.has('"round":2');
  expect(agent.watchers).toBe(1);
  stream.request.destroy();
  await expect.poll(() => agent.watchers).toBe(0);
});

test('closing the server ends event streams, without an end event', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent);
  const stream = await listen(agent);
  await stream.has('"round":2');
  await server.close();
  await stream.closed;
  expect(stream.events()).toEqual(['event: view']);
  expect(fs.existsSync(agent.socket)).toBe(false);
});

test('the socket is the owner’s alone, and so is a directory made for it', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  const file = path.join(agent.dir, 'run', 'godwit', 'agent.sock');
  const server = await ControlServer.open(file, agent);
  cleanups.push(() => server.close());
  expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  expect(fs.statSync(path.dirname(file)).mode & 0o777).toBe(0o700);
});

test.skipIf(process.getuid?.() !== 0)('a group may be given the socket, too', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent, 4321);
  cleanups.push(() => server.close());
  const { uid, gid, mode } = fs.statSync(agent.socket);
  expect([uid, gid, mode & 0o777]).toEqual([0, 4321, 0o660]);
});

test('a group that the agent may not give it to is refused, and nobody listens', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  vi.spyOn(fs, 'chownSync').mockImplementation(() => {
    throw Object.assign(new Error('no'), { code: 'EPERM' });
  });
  cleanups.push(() => void vi.restoreAllMocks());
  await expect(ControlServer.open(agent.socket, agent, 4321)).rejects.toMatchObject({
    code: 'listen-failed',
    message: expect.stringContaining('cannot be given to group 4321: EPERM'),
  });
  expect(fs.existsSync(agent.socket)).toBe(false);
});

test('the socket of a dead daemon is replaced, a live one refused', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  // What a killed daemon leaves: closing would remove the file, so a second name for it stays.
  const dead = net.createServer().listen(`${agent.socket}.dead`);
  await new Promise((resolve) => dead.once('listening', resolve));
  fs.linkSync(`${agent.socket}.dead`, agent.socket);
  await new Promise((resolve) => dead.close(resolve));
  expect(fs.lstatSync(agent.socket).isSocket()).toBe(true);

  const server = await ControlServer.open(agent.socket, agent);
  cleanups.push(() => server.close());
  await expect(ControlServer.open(agent.socket, agent)).rejects.toMatchObject({
    code: 'listen-failed',
    message: expect.stringContaining('another daemon serves'),
  });
  expect((await ask(agent, 'GET', '/healthz')).status).toBe(200);
});

test('a file that is no socket is left alone', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  fs.writeFileSync(agent.socket, 'precious');
  await expect(ControlServer.open(agent.socket, agent)).rejects.toMatchObject({
    code: 'bad-option',
    message: expect.stringContaining('is not a socket'),
  });
  expect(fs.readFileSync(agent.socket, 'utf8')).toBe('precious');
});

test('a path that cannot be listened on is refused in words', async () => {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  const tooLong = path.join(agent.dir, 'x'.repeat(120));
  await expect(ControlServer.open(tooLong, agent)).rejects.toMatchObject({ code: 'listen-failed' });
  fs.writeFileSync(path.join(agent.dir, 'file'), '');
  const belowFile = path.join(agent.dir, 'file', 'agent.sock');
  await expect(ControlServer.open(belowFile, agent)).rejects.toMatchObject({
    code: 'listen-failed',
  });
});
