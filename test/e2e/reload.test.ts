import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { run } from '../cli/run.ts';
import { Hosts, until } from './hosts.ts';

/** Daemons that are told by SIGHUP to take their configuration anew. */

let dir: string;
let hosts: Hosts | undefined;

const file = (name: string) => path.join(dir, name);
const keygen = async (...args: string[]) => {
  const made = await run('agent-recv', ...args, '--dir', dir, '--json');
  expect(made.code, made.stderr).toBe(0);
  return JSON.parse(made.stdout).certificates as { name: string; fingerprint: string }[];
};
const shows = (of: string) => ({
  'tls-cert': file(`${of}.pem`),
  'tls-key': file(`${of}-key.pem`),
  'tls-ca': file('ca.pem'),
});
const configure = (agent: 'send' | 'recv', content: object) => {
  fs.writeFileSync(file(`${agent}.json`), JSON.stringify(content), { mode: 0o600 });
  return ['--config', file(`${agent}.json`)];
};
const hup = async (agent: 'send' | 'recv', answer: RegExp) => {
  const daemon = hosts![agent];
  const before = daemon.log.length;
  daemon.process.kill('SIGHUP');
  const said = () =>
    daemon.log
      .slice(before)
      .split('\n')
      .find((line) => answer.test(line));
  await until(() => said() !== undefined || !daemon.alive, `${agent} says ${answer}`);
  expect(daemon.alive, daemon.log).toBe(true);
};
const outcome = async (...options: string[]) => {
  const all = ['migrate', 'vm1', `localhost:${hosts!.port}`, '--json', ...options];
  const { stdout } = await hosts!.run(all);
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
};

beforeAll(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-reload-'));
  await keygen('keygen', 'localhost', 'hosta', 'hostc', 'hostd', 'hoste');
});
afterAll(() => fs.rmSync(dir, { recursive: true }));
afterEach(async () => {
  await hosts?.end();
  hosts = undefined;
});

test('SIGHUP takes certificates and allow-list anew, and touches no migration', async () => {
  const recv = { ...shows('localhost'), 'allow-peer': ['hostc'] };
  hosts = await Hosts.start({
    send: configure('send', shows('hosta')),
    recv: configure('recv', recv),
  });
  await hosts.boot();
  expect(await outcome()).toMatchObject({ code: 'peer-not-allowed' });

  configure('recv', { ...recv, 'allow-peer': ['hosta'] });
  await hup('recv', /reloaded: --allow-peer$/);
  const slow = ['--bandwidth', '5MB/s', '--no-compression', '--max-suspend-time', '5s'];
  const target = `localhost:${hosts.port}`;
  const begun = await hosts.run(['migrate', 'vm1', target, '--detach', ...slow]);
  expect(begun.code, begun.stderr).toBe(0);
  const id = begun.stdout.trim();
  await until(async () => (await hosts!.view(id)).round > 0, 'pages are sent');

  // All of it changes under the migration: both certificates, and who is admitted.
  await keygen('renew', 'localhost', 'hosta', '--days', '90');
  configure('recv', { ...recv, 'allow-peer': ['hostc'], 'max-migrations': 3, definitions: dir });
  await hup('recv', /--definitions is not taken before the next start/);
  expect(hosts.recv.log).toMatch(/reloaded: .*--max-migrations/);
  configure('send', { ...shows('hostd'), 'log-level': 'warn' });
  await hup('send', /reloaded: --tls-cert|reloaded: --log-level/);
  await hosts.run(['set', id, '--bandwidth', 'none']);
  expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
  await hosts.mustRunAt('destination');

  // What has come into force: another sender, and a receiver that admits neither.
  await hosts.boot({ name: 'vm2' });
  const other = await hosts.run(['migrate', 'vm2', target, '--json']);
  expect(other.stdout).toContain('certificate \\"hostd\\"');
});

test('what is wrong keeps the old, and says so', async () => {
  const good = { ...shows('localhost'), 'allow-peer': ['hosta'] };
  hosts = await Hosts.start({
    send: configure('send', shows('hosta')),
    recv: configure('recv', good),
  });
  const old = hosts.recv.process.pid;
  for (const [wrong, why] of [
    [{ ...good, 'tls-key': file('hosta-key.pem') }, /not reloaded, .* do not go together/],
    [{ ...good, 'tls-cert': file('missing.pem') }, /not reloaded, .* ENOENT/],
    [{ ...good, 'tls-ca': file('hosta.pem') }, /not reloaded, .* --tls-ca is no CA/],
    [
      { ...good, 'max-migrations': 0 },
      /not reloaded, .*recv\.json: --max-migrations cannot be "0"/,
    ],
    [{ 'allow-peer': ['hosta'] }, /not reloaded, .* TLS is turned on or off by a restart only/],
    [[], /not reloaded, .* is not a JSON object/],
  ] as const) {
    configure('recv', wrong);
    await hup('recv', why);
  }
  expect(hosts.recv.process.pid).toBe(old);
  await hosts.boot();
  expect(await outcome('--max-suspend-time', '20s')).toMatchObject({ outcome: 'completed' });
});

test('a certificate that ends within 30 days is warned of, at the start and after a reload', async () => {
  await keygen('renew', 'hostc', '--days', '10');
  await keygen('renew', 'hoste', '--days', '31');
  hosts = await Hosts.start({ send: configure('send', shows('hostc')) });
  expect(hosts.send.log).toMatch(/warn --tls-cert expires in (9|10) days, /);
  configure('send', shows('hoste'));
  await hup('send', /reloaded: --tls-cert/);
  expect(hosts.send.log.match(/expires in/g)).toHaveLength(1);
});
