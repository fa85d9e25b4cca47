import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import {
  afterAll,
  afterEach,
  beforeEach,
  describe,
  expect,
  type MockInstance,
  test,
  vi,
} from 'vitest';
import { Admission } from '../../lib/daemon/admission.ts';
import { openEntrance, type Visitor } from '../../lib/daemon/entrance.ts';
import { GodwitError } from '../../lib/errors.ts';
import { AllowList } from '../../lib/wire/certificate-names.ts';
import { until } from '../e2e/hosts.ts';

/** Strangers that may be open, and those of one address. */
const ALL = 64;
const OF_ADDRESS = 32;

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-entrance-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));
execFileSync(
  'openssl',
  [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', '/CN=hosta', '-keyout', 'key.pem', '-out', 'cert.pem'],
  ],
  { cwd: dir, stdio: 'pipe' },
);
const read = (name: string) => fs.readFileSync(path.join(dir, name), 'utf8');
const credentials = { cert: read('cert.pem'), key: read('key.pem'), ca: read('cert.pem') };

let server: net.Server;
let admission: Admission;
let entering: MockInstance<Admission['enter']>;
let visitors: Visitor[];
const sockets: net.Socket[] = [];

beforeEach(() => {
  server = net.createServer();
  admission = new Admission(8);
  entering = vi.spyOn(admission, 'enter');
  visitors = [];
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
  await once(server, 'close');
});

async function open(secure: boolean): Promise<number> {
  openEntrance(server, {
    credentials: secure ? credentials : undefined,
    allowed: new AllowList(['hosta']),
    admission,
    onConnection: (visitor) => {
      visitor.socket.on('error', () => {}).resume();
      visitors.push(visitor);
    },
  });
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** Connects from an address of this host and says the first bytes of a TLS hello, and no more. */
async function halfOpen(port: number, localAddress = '127.0.0.1'): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress });
  sockets.push(socket);
  socket.on('error', () => {}).resume();
  await once(socket, 'connect');
  socket.write(Buffer.from([0x16, 3, 1, 2, 0, 1]), () => {});
  return socket;
}

async function closed(socket: net.Socket): Promise<void> {
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

function connections(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  server.getConnections((_, count) => resolve(count));
  return promise;
}

/** How many were let in so far, of that address or of all. */
function letIn(address?: string): number {
  const { calls, results } = entering.mock;
  return results.filter(({ value }, i) => {
    const from = calls[i]![0].remoteAddress?.replace('::ffff:', '');
    return value !== undefined && (address === undefined || from === address);
  }).length;
}

/** How many of these are still open once the others were closed. */
const stay = (all: readonly net.Socket[], count: number) =>
  until(() => all.filter(({ closed }) => !closed).length <= count, `${count} stay`);

describe.each([
  ['TLS', true],
  ['plain TCP', false],
] as const)('over %s', (_, secure) => {
  test('a thousand that say nothing are closed at once, but for a few', async () => {
    const port = await open(secure);
    const all: net.Socket[] = [];
    for (let batch = 0; batch < 10; batch++) {
      const address = `127.0.0.${1 + (batch % 5)}`;
      const some = Array.from({ length: 100 }, () => halfOpen(port, address));
      all.push(...(await Promise.all(some)));
      await until(async () => (await connections()) <= ALL, 'all but a few are closed');
    }
    await stay(all, ALL);
    expect(letIn()).toBeGreaterThanOrEqual(ALL); // more, where some have run out of time
    for (const socket of all) socket.destroy();
    await until(async () => (await connections()) === 0, 'nothing is left of them');
  });

  test('one address does not take the room of the others', async () => {
    const port = await open(secure);
    const all = await Promise.all(Array.from({ length: 100 }, () => halfOpen(port, '127.0.0.2')));
    await stay(all, OF_ADDRESS);
    expect(letIn('127.0.0.2')).toBeGreaterThanOrEqual(OF_ADDRESS);
    await halfOpen(port, '127.0.0.3');
    await until(() => letIn('127.0.0.3') === 1, 'another address is let in');
  });
});

test('what was taken in does not count any more, in TLS neither', async () => {
  const port = await open(true);
  const shown = { cert: credentials.cert, key: credentials.key, ca: credentials.ca };
  for (let i = 0; i < 2 * OF_ADDRESS; i++) {
    const socket = tls.connect({ ...shown, port, host: '127.0.0.1', servername: 'hosta' });
    sockets.push(socket);
    await until(() => visitors.length === i + 1, 'it is let in');
    const { refusal, fingerprint, stranger, peer } = visitors[i]!;
    expect({ refusal, peer }).toEqual({
      refusal: undefined,
      peer: `127.0.0.1:${socket.localPort}`,
    });
    expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
    stranger.takenIn();
  }
});

test('what goes away in its handshake, or is turned away, has failed; only for its address', async () => {
  const port = await open(true);
  for (let i = 0; i < 40; i++) {
    (await halfOpen(port, '127.0.0.2')).destroy(); // before it is through
    const plain = await halfOpen(port, '127.0.0.2');
    plain.write('this is no TLS at all\n'.repeat(40));
    await closed(plain);
  }
  await until(async () => (await connections()) === 0, 'all are closed');
  const refused = await halfOpen(port, '127.0.0.2');
  await closed(refused); // at once
  await halfOpen(port, '127.0.0.3');
  await until(async () => (await connections()) === 1, 'another address is let in');
});

test('when the agent stops, nothing that is half open keeps it', async () => {
  const port = await open(true);
  const half = await halfOpen(port);
  await until(async () => (await connections()) === 1, 'it is accepted');
  admission.close();
  await closed(half);
  expect(await connections()).toBe(0);
});

test('what was told why it may not stay is left time to hear it', async () => {
  const port = await open(false);
  await halfOpen(port);
  await until(() => visitors.length === 1, 'it is let in');
  visitors[0]!.stranger.failed(new GodwitError('bad-message', 'it is not wanted'));
  admission.close();
  expect(visitors[0]!.socket.destroyed).toBe(false);
});
