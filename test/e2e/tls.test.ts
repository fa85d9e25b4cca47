import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { GodwitError } from '../../lib/errors.ts';
import { connectTo } from '../../lib/wire/connect.ts';
import type { Connection } from '../../lib/wire/connection.ts';
import { readCredentials } from '../../lib/wire/credentials.ts';
import { run } from '../cli/run.ts';
import { Hosts, until } from './hosts.ts';

let dir: string;
let hosts: Hosts | undefined;
let fingerprint: string;

const file = (name: string) => path.join(dir, name);
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
/** Credentials as options: `of` is the certificate's name, `by` the directory of its CA. */
const shows = (of: string, by = '.') => [
  ...['--tls-cert', file(`${by}/${of}.pem`), '--tls-key', file(`${by}/${of}-key.pem`)],
  ...['--tls-ca', file('ca.pem')],
];
const credentialsOf = (of: string) =>
  readCredentials({ cert: file(`${of}.pem`), key: file(`${of}-key.pem`), ca: file('ca.pem') });

beforeAll(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-tls-'));
  const names = ['localhost', 'hosta', 'hostc'];
  const made = await run('agent-recv', 'keygen', ...names, '--dir', dir, '--json');
  expect(made.code, made.stderr).toBe(0);
  fingerprint = JSON.parse(made.stdout).certificates[1].fingerprint;
  await run('agent-recv', 'keygen', 'hosta', '--dir', file('other'));
  openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', '/CN=hosta', '-keyout', 'expired-key.pem', '-out', 'expired.csr'],
  );
  openssl(
    ...['x509', '-req', '-in', 'expired.csr', '-CA', 'ca.pem', '-CAkey', 'ca-key.pem'],
    ...['-days', '-1', '-out', 'expired.pem'],
  );
  fs.chmodSync(file('expired-key.pem'), 0o600);
  fs.chmodSync(file('expired.pem'), 0o600);
});
afterAll(() => fs.rmSync(dir, { recursive: true }));
afterEach(async () => {
  await hosts?.end();
  hosts = undefined;
});

const start = async (send: string[], recv = [...shows('localhost'), '--allow-peer', 'hosta']) => {
  hosts = await Hosts.start({ send, recv });
  await hosts.boot();
  return hosts;
};
const migrate = (name = 'localhost', ...options: string[]) =>
  hosts!.run(['migrate', 'vm1', `${name}:${hosts!.port}`, '--json', ...options]);
const lastView = ({ stdout }: { stdout: string }) => JSON.parse(stdout.trim().split('\n').at(-1)!);

describe('over TLS', () => {
  test('a guest moves, admitted by name, and by fingerprint', async () => {
    await start(shows('hosta'), [
      ...shows('localhost'),
      ...['--allow-peer', 'nobody', '--allow-peer', `sha256:${fingerprint.toUpperCase()}`],
    ]);
    expect(lastView(await migrate('localhost', '--max-suspend-time', '20s'))).toMatchObject({
      outcome: 'completed',
    });
    await hosts!.mustRunAt('destination');
  });

  test.each([
    ['right CA but not on the list', () => shows('hostc'), /"hostc" .* is not on the allow-list/],
    ['a certificate of another CA', () => shows('hosta', 'other'), /is signed by another CA/],
    ['an expired certificate', () => shows('expired'), /it has expired/],
  ])('%s: refused, with the reason on both sides', async (_, send, reason) => {
    await start(send());
    const view = lastView(await migrate());
    expect(view).toMatchObject({ outcome: 'failed', code: 'peer-not-allowed' });
    expect(view.message).toMatch(reason);
    expect(hosts!.recv.log).toMatch(reason);
    await hosts!.mustRunAt('source');
  });

  test('an empty allow-list admits nobody', async () => {
    await start(shows('hosta'), shows('localhost'));
    expect(lastView(await migrate())).toMatchObject({ code: 'peer-not-allowed' });
  });

  test('a receiver by another name than its certificate has is refused', async () => {
    await start(shows('hosta'));
    const view = lastView(await migrate('127.0.0.1'));
    expect(view).toMatchObject({ outcome: 'failed', code: 'tls-name-mismatch' });
    expect(view.message).toContain('not for "127.0.0.1"');
  });

  test('a sender without TLS is told so, and so is its receiver', async () => {
    await start([]);
    expect(lastView(await migrate())).toMatchObject({
      ...{ outcome: 'failed', code: 'tls-required' },
      message: expect.stringMatching(/takes connections over TLS only: give the sender --tls-cert/),
    });
    expect(hosts!.recv.log).toMatch(/turned away: .*over TLS only.* \(tls-required\)/);
  });

  test('a sender with TLS at a receiver without it, and both are told', async () => {
    await start(shows('hosta'), []);
    const view = lastView(await migrate());
    expect(view).toMatchObject({ outcome: 'failed', code: 'tls-failed' });
    expect(view.message).toMatch(/does not speak TLS there|does it use TLS/);
    expect(hosts!.recv.log).toMatch(/the peer speaks TLS, this side does not/);
  });

  test('TLS 1.2 is not spoken', async () => {
    await start(shows('hosta'));
    const old = tls.connect({
      ...{ ...credentialsOf('hosta'), host: 'localhost', port: hosts!.port },
      maxVersion: 'TLSv1.2',
    });
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => old.once('error', resolve));
    expect(error.code).toMatch(/ERR_SSL.*VERSION|ECONNRESET/);
    await until(() => hosts!.recv.log.includes('does not speak TLS 1.3'), 'the log says why');
  });

  test('no other certificate joins a data lane, nor a connection without the secret', async () => {
    await start(shows('hosta'), [
      ...shows('localhost'),
      ...['--allow-peer', 'hosta', '--allow-peer', 'hostc', '--data-ports', '47310-47317'],
    ]);
    const id = await hosts!.run([
      ...['migrate', 'vm1', `localhost:${hosts!.port}`, '--detach'],
      ...['--bandwidth', '1MB/s', '--no-compression', '--lanes', '1'],
      ...['--max-suspend-time', '5s'],
    ]);
    expect(id.code, id.stderr).toBe(0);
    await until(async () => (await hosts!.view(id.stdout.trim())).round === 1, 'pages are sent');
    const intrude = async (of: string) => {
      const closed = Promise.withResolvers<GodwitError | undefined>();
      const lane: Connection = await connectTo(
        {
          ...{ host: 'localhost', port: 47310, timeoutMs: 5000 },
          security: { credentials: credentialsOf(of), insecure: false },
        },
        {
          ...{ side: 'sender', connection: 'data', onMessage: () => {} },
          onClose: (error) => closed.resolve(error),
        },
      );
      try {
        const migration = id.stdout.trim();
        lane.send('LaneOpen', { migration, lane: 0, secret: new Uint8Array(16), received: 0 });
      } catch {
        // It was sent away before it could say so.
      }
      return closed.promise;
    };
    expect((await intrude('hostc'))?.message).toMatch(/not that of the control connection/);
    expect((await intrude('hosta'))?.message).toMatch(/does not belong to the migration/);
    await hosts!.run(['set', id.stdout.trim(), '--bandwidth', 'none']);
    expect(await hosts!.ended(id.stdout.trim())).toMatchObject({ outcome: 'completed' });
    await hosts!.mustRunAt('destination');
  });
});

test('the line that names the fingerprint to allow is said although others like it came before', async () => {
  await start(shows('hosta', 'other'), [...shows('localhost'), '--allow-peer', 'nobody']);
  await migrate();
  await hosts!.send.end();
  await hosts!.source.startSend(undefined, shows('hosta'));
  await migrate();
  expect(hosts!.recv.log).toMatch(/turned away: .*signed by another CA/);
  expect(hosts!.recv.log).toContain(`sha256:${fingerprint}`);
});

describe('credentials', () => {
  test('whose key others can read are refused', async () => {
    const key = file('exposed-key.pem');
    fs.copyFileSync(file('hosta-key.pem'), key);
    fs.chmodSync(key, 0o644);
    const args = ['--tls-cert', file('hosta.pem'), '--tls-key', key, '--tls-ca', file('ca.pem')];
    const { code, stderr } = await run('agent-send', 'serve', '--check-config', ...args);
    expect(code).toBe(2);
    expect(stderr).toContain(`${key} can be read or written by others: chmod 600`);
  });

  test('that do not belong together, or are not all there, are refused', async () => {
    const [cert, ca] = [file('hosta.pem'), file('ca.pem')];
    const wrong = ['--tls-cert', cert, '--tls-key', file('hostc-key.pem'), '--tls-ca', ca];
    expect((await run('agent-recv', 'serve', '--check-config', ...wrong)).stderr).toMatch(
      /do not go together/,
    );
    expect((await run('agent-recv', 'serve', '--check-config', '--tls-cert', cert)).stderr).toMatch(
      /go together/,
    );
  });

  test('are not overwritten by keygen', async () => {
    const { code, stderr } = await run('agent-recv', 'keygen', 'hosta', '--dir', dir);
    expect(code).toBe(2);
    expect(stderr).toContain('is there already');
  });
});

describe('without TLS', () => {
  test('a receiver listens on this host only', async () => {
    const args = [
      '--listen',
      '0.0.0.0:0',
      '--socket',
      file('r.sock'),
      '--state-dir',
      file('state'),
    ];
    const { code, stderr } = await run('agent-recv', 'serve', ...args, '--guest-dir', dir);
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /0\.0\.0\.0 can be reached from other hosts: give --tls-cert.*tls-required/,
    );
  });

  test('a flood of bad connections is turned away and leaves a few lines', async () => {
    hosts = await Hosts.start();
    const knock = () =>
      new Promise<void>((resolve) => {
        const socket = net.connect(hosts!.port, '127.0.0.1', () =>
          socket.write('GET / HTTP/1.1'.repeat(9)),
        );
        socket.on('error', () => {});
        socket.resume();
        socket.on('close', () => resolve());
      });
    for (let i = 0; i < 40; i++) await Promise.all(Array.from({ length: 10 }, knock));
    const lines = hosts.recv.log.split('\n').filter((line) => line.includes('turned away'));
    expect(lines.length).toBeGreaterThan(1);
    expect(lines.length).toBeLessThan(10);
    expect(hosts.recv.alive).toBe(true);
  });
});
