import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { LedgerWriter } from '../../lib/report/ledger.ts';
import { Reports } from '../../lib/web/reports.ts';
import { type WebOptions, WebServer } from '../../lib/web/server.ts';
import { readCredentials, type Security } from '../../lib/wire/credentials.ts';
import { aView, FakeBackend } from '../api/fake-backend.ts';
import { run } from '../cli/run.ts';
import { FIXTURES } from '../report/fixtures.ts';

/** Who gets what from the page's server: over real sockets, of a daemon without migrations of its own. */

const TOKEN = 'a-token-that-nobody-guesses';
const OPEN: Security = { credentials: undefined, insecure: false };
const LOOPBACK = { host: '127.0.0.1', port: 0 };

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Served {
  readonly backend: FakeBackend;
  readonly server: WebServer;
  readonly ask: (method: string, at: string, headers?: http.OutgoingHttpHeaders) => Promise<Answer>;
}

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

async function serve(
  options: Partial<WebOptions> = {},
  security = OPEN,
  backend = new FakeBackend(),
): Promise<Served> {
  cleanups.push(() => backend.remove());
  const at = options.at ?? LOOPBACK;
  const server = await WebServer.open({ token: undefined, ...options, at }, security, backend);
  cleanups.push(() => server.close());
  const { port = 0 } = typeof at === 'string' ? {} : new URL(server.address);
  const where = typeof at === 'string' ? { socketPath: at } : { host: '127.0.0.1', port };
  const ask: Served['ask'] = async (method, target, headers = {}) => {
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const { request } = server.address.startsWith('https') ? https : http;
    const body = method === 'PATCH' ? '{"maxSuspendMs":700}' : undefined;
    const all = { host: 'localhost:8470', ...headers };
    request(
      { ...where, path: target, method, agent: false, headers: all, rejectUnauthorized: false },
      resolve,
    )
      .on('error', reject)
      .end(body);
    const response = await promise;
    let text = '';
    for await (const piece of response.setEncoding('utf8')) text += piece;
    return { status: response.statusCode!, headers: response.headers, text };
  };
  return { backend, server, ask };
}

const ID = aView().id;

test('all of the page comes from the daemon, and none of it could run what is not', async () => {
  const { ask } = await serve();
  const { status, headers, text } = await ask('GET', '/');
  expect(status).toBe(200);
  expect(headers['content-type']).toBe('text/html; charset=utf-8');
  const policy = headers['content-security-policy'] as string;
  expect(policy).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self';/);
  expect(policy).not.toContain('unsafe');
  expect(text).not.toMatch(/<style|\son\w+=|\sstyle=|<script(?![^>]*\ssrc=)|https?:/);

  const linked = [...text.matchAll(/(?:src|href)="([^"#]+)"/g)].map(([, to]) => to!);
  const files = linked.filter((to) => !to.startsWith('data:'));
  expect(files.length).toBeGreaterThan(15);
  for (const file of files) {
    const answer = await ask('GET', `/${file}`);
    expect([file, answer.status]).toEqual([file, 200]);
    if (!file.endsWith('.ts')) continue;
    expect(answer.headers['content-type']).toBe('text/javascript; charset=utf-8');
    for (const [, from] of answer.text.matchAll(/^(?:import|export|\}).*?\bfrom '([^']+)'/gm))
      expect(files, `${file} needs ${from}`).toContain(
        path.posix.join(path.posix.dirname(file), from!),
      );
  }
});

test('there is the page, and no other file of this host', async () => {
  const { ask } = await serve();
  for (const at of [
    ...['/modules/', '/modules/package.json', '/modules/lib/web/server.ts', '/page', '/report/'],
    ...['/modules/../../package.json', '/modules/%2e%2e/package.json', '//etc/passwd', '/samples/'],
    ...['/report/../../x', `/report/${ID}%2f..`, '/migrations', '/metrics'],
  ])
    expect([at, (await ask('GET', at)).status]).toEqual([at, 404]);
  expect((await ask('POST', '/', { origin: 'http://localhost:8470' })).status).toBe(405);
});

test('a name of somebody else that leads here is turned away', async () => {
  const { ask, backend } = await serve();
  const own = [
    'localhost',
    'localhost:9000',
    '127.0.0.1:8470',
    '127.9.9.9',
    '[::1]:8470',
    'LOCALHOST',
  ];
  for (const host of own)
    expect([host, (await ask('GET', '/', { host })).status]).toEqual([host, 200]);
  for (const host of [
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example:80',
    '10.0.0.1',
    '@',
    'a b',
  ]) {
    expect([host, (await ask('GET', '/v1/guests', { host })).status]).toEqual([host, 403]);
    expect(
      (await ask('PATCH', `/v1/migrations/${ID}`, { host, origin: `http://${host}` })).status,
    ).toBe(403);
  }
  expect(backend.calls).toEqual([]);
});

test('what another site sends changes nothing', async () => {
  const { ask, backend } = await serve();
  const at = `/v1/migrations/${ID}`;
  for (const origin of [
    undefined,
    'null',
    'http://evil.example',
    'http://localhost',
    'http://localhost:8471',
  ])
    for (const [method, path] of [
      ['PATCH', at],
      ['POST', `${at}/cancel`],
      ['POST', `${at}/cutover`],
    ] as const)
      expect([
        origin,
        (await ask(method, path, origin === undefined ? {} : { origin })).status,
      ]).toEqual([origin, 403]);
  expect(backend.calls).toEqual([]);
  for (const scheme of ['http', 'https'])
    expect((await ask('PATCH', at, { origin: `${scheme}://localhost:8470` })).status).toBe(200);
  expect(backend.calls).toEqual([
    ['change', ID, { maxSuspendMs: 700 }],
    ['change', ID, { maxSuspendMs: 700 }],
  ]);
});

test('what the page has no button for cannot be done there', async () => {
  const { ask, backend } = await serve();
  const headers = { origin: 'http://localhost:8470' };
  for (const [method, at] of [
    ['POST', '/v1/migrations'],
    ['POST', '/v1/checks'],
    ['POST', `/v1/migrations/${ID}/resolve`],
    ['GET', '/v1/calibration'],
    ['POST', '/v1/evacuation/plan'],
  ] as const)
    expect([at, (await ask(method, at, headers)).status]).toEqual([at, 404]);
  expect((await ask('POST', '/v1/evacuation', headers)).status).toBe(405);
  expect(backend.calls).toEqual([]);
});

test('the token is asked for, and is in no log', async () => {
  const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  cleanups.push(() => written.mockRestore());
  const { ask } = await serve({ token: TOKEN });
  const basic = (words: string) => `Basic ${Buffer.from(words).toString('base64')}`;
  const wrong = [
    '',
    'Basic',
    basic('root'),
    basic('root:'),
    basic(`root:${TOKEN}x`),
    'Bearer x',
    basic(`${TOKEN}:`),
  ];
  for (const authorization of [undefined, ...wrong]) {
    const { status, headers } = await ask(
      'GET',
      '/',
      authorization === undefined ? {} : { authorization },
    );
    expect([authorization, status]).toEqual([authorization, 401]);
    expect(headers['www-authenticate']).toMatch(/^Basic realm=/);
  }
  for (const authorization of [basic(`:${TOKEN}`), basic(`root:${TOKEN}`), `Bearer ${TOKEN}`])
    expect((await ask('GET', '/', { authorization })).status).toBe(200);
  const logged = written.mock.calls.map(([text]) => String(text)).join('');
  expect(logged).toContain('page on http://127.0.0.1:');
  expect(logged).not.toContain(TOKEN);
});

test('a Unix socket is for its owner, and gone with the server', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-web-'));
  cleanups.push(() => fs.rmSync(dir, { recursive: true }));
  const at = path.join(dir, 'web.sock');
  const { ask, server } = await serve({ at });
  expect(fs.statSync(at).mode & 0o777).toBe(0o600);
  expect((await ask('GET', '/')).status).toBe(200);
  expect((await ask('GET', '/', { host: 'evil.example' })).status).toBe(403);
  await expect(serve({ at })).rejects.toThrow(
    `another daemon serves the socket of the page ${at}; stop it or choose --web`,
  );
  server.close();
  await expect.poll(() => fs.existsSync(at)).toBe(false);
});

test('from other hosts it is reached over TLS, whatever name they have for it', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-web-'));
  cleanups.push(() => fs.rmSync(dir, { recursive: true }));
  const made = await run('agent-recv', 'keygen', 'hosta', '--dir', dir);
  expect(made.code, made.stderr).toBe(0);
  const at = (name: string) => path.join(dir, name);
  const credentials = readCredentials({
    cert: at('hosta.pem'),
    key: at('hosta-key.pem'),
    ca: at('ca.pem'),
  });
  const security = { credentials, insecure: false };
  const { ask, server } = await serve({ at: { host: '0.0.0.0', port: 0 }, token: TOKEN }, security);
  server.renew(security);
  const headers = { host: 'hosta.example:8470', authorization: `Bearer ${TOKEN}` };
  expect((await ask('GET', '/', headers)).status).toBe(200);
  expect((await ask('GET', '/', { host: headers.host })).status).toBe(401);
});

test('reports are made of ledgers, one after the other', async () => {
  const { ask, backend } = await serve();
  expect(JSON.parse((await ask('GET', `/report/${ID}`)).text).error.code).toBe('unknown-migration');
  const ledger = new LedgerWriter(backend.ledgerFile(ID), (error) => expect.fail(error.message));
  for (const record of FIXTURES[Object.keys(FIXTURES)[0]!]!()) ledger.append(record);
  await ledger.close();
  const answers = await Promise.all([1, 2, 3].map(() => ask('GET', `/report/${ID}`)));
  for (const { status, text, headers } of answers) {
    expect([status, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; style-src/);
    expect(text).toContain('What happened');
  }
  const there = await serve({}, OPEN, new FakeBackend(aView(), 'receive'));
  expect((await there.ask('GET', `/report/${ID}`)).status).toBe(404);
});

test('a report that takes too long is given up, and the next one is made', async () => {
  const { backend } = await serve();
  const file = backend.ledgerFile(ID);
  const ledger = new LedgerWriter(file, (error) => expect.fail(error.message));
  for (const record of FIXTURES[Object.keys(FIXTURES)[0]!]!()) ledger.append(record);
  await ledger.close();
  const reports = new Reports();
  // A thread takes longer to start.
  await expect(reports.render(file, 1)).rejects.toMatchObject({ code: 'ledger-failed' });
  expect(await reports.render(file)).toContain('What happened');
});
