import http from 'node:http';
import net from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { FakeBackend } from './fake-backend.ts';

let backend: FakeBackend;
let server: ControlServer;
beforeAll(async () => {
  backend = new FakeBackend();
  server = await ControlServer.open(backend.socket, backend);
});
afterAll(async () => {
  await server.close();
  backend.remove();
});

const ROUTES = [
  ...['/migrations', '/migrations/4f2a', '/migrations/4f2a/cancel', '/migrations/4f2a/cutover'],
  ...['/migrations/4f2a/resolve', '/migrations/4f2a/ledger', '/guests', '/metrics', '/healthz'],
  '/guests/vm1/profile',
];
const VALID = {
  guest: 'vm1',
  host: 'hostb',
  port: 7070,
  limits: { maxSuspendMs: 300 },
  choice: 'keep-here',
  by: 'ann',
};

/** Node sends no length with these: a body would be read as the next request. */
const BODILESS = ['GET', 'DELETE'];

interface Answer {
  readonly status: number;
  readonly text: string;
}

function ask(method: string, path: string, body: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath: backend.socket, method, path, agent: false });
    request.on('response', async (response) => {
      let text = '';
      for await (const piece of response.setEncoding('utf8')) text += piece;
      resolve({ status: response.statusCode ?? 0, text });
    });
    request.on('error', reject);
    request.end(body);
  });
}

const body = fc.oneof(
  fc.json(),
  fc.string(),
  fc
    .tuple(fc.constantFrom(...Object.keys(VALID), 'bandwidth', 'policy', 'x'), fc.jsonValue())
    .map(([field, value]) => JSON.stringify({ ...VALID, [field]: value })),
);
const target = fc.oneof(
  fc.constantFrom(...ROUTES),
  fc.webPath().map((path) => `/migrations${path || '/'}`),
  fc.constantFrom(
    '/migrations/../../etc/passwd',
    '/migrations/%2e%2e%2f/ledger',
    '/migrations//ledger',
  ),
);

test('a request that is wrong gets an answer with a stable code, and nothing internal', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'PATCH', 'PUT', 'DELETE'),
      target,
      body,
      async (method, path, text) => {
        const { status, text: answer } = await ask(
          method,
          path,
          BODILESS.includes(method) ? '' : text,
        );
        expect(status).toBeGreaterThanOrEqual(200);
        if (status < 400) return;
        const { error } = JSON.parse(answer);
        expect(error.code).toMatch(/^[a-z][a-z-]+$/);
        expect(error.code).not.toBe('internal');
        expect(status).toBeLessThan(500);
      },
    ),
    { numRuns: 400 },
  );
});

test('bytes that are not HTTP end their own connection and no other', async () => {
  const heard = (bytes: Uint8Array) =>
    new Promise<void>((resolve) => {
      const socket = net.connect(backend.socket, () => socket.end(bytes));
      socket.on('error', () => {});
      socket.on('close', () => resolve());
      socket.resume();
    });
  const starts = fc.constantFrom(
    '',
    'GET / HTTP/1.1\r\n',
    'POST /migrations HTTP/1.1\r\nhost: x\r\n',
  );
  await fc.assert(
    fc.asyncProperty(starts, fc.uint8Array({ maxLength: 400 }), async (start, noise) => {
      await heard(Buffer.concat([Buffer.from(start), noise]));
      expect((await ask('GET', '/healthz', '')).status).toBe(200);
    }),
    { numRuns: 150 },
  );
});
