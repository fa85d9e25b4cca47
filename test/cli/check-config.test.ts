import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { root, run } from './run.ts';

/** What `serve` would meet is found by `--check-config`; what no restart mends exits 2 in both. */

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-check-config-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));

const at = (...names: string[]) => path.join(dir, ...names);
const places = (more: Record<string, string> = {}) =>
  Object.entries({
    socket: at('agent.sock'),
    'state-dir': at('state'),
    'host-dir': at('host'),
    'guest-dir': at('guests'),
    ...more,
  }).flatMap(([name, value]) => [`--${name}`, value]);
const shows = (of: string, ca = 'ca.pem') => ({
  'tls-cert': at(`${of}.pem`),
  'tls-key': at(`${of}-key.pem`),
  'tls-ca': at(ca),
});
const check = (agent: 'agent-send' | 'agent-recv', ...args: string[]) =>
  run(agent, 'serve', ...args, '--check-config');

beforeAll(async () => {
  await run('agent-recv', 'keygen', 'hosta', 'expired', '--dir', dir);
  await run('agent-recv', 'keygen', 'other', '--dir', at('foreign'));
  for (const name of ['other.pem', 'other-key.pem']) fs.copyFileSync(at('foreign', name), at(name));
  const args = ['x509', '-in', at('expired.pem'), '-signkey', at('ca-key.pem'), '-days', '-1'];
  const request = ['req', '-new', '-key', at('expired-key.pem'), '-subj', '/CN=expired'];
  const made = spawnSync('openssl', [...request, '-out', at('expired.csr')]);
  expect(made.status, String(made.stderr)).toBe(0);
  const signed = spawnSync('openssl', [
    ...['x509', '-req', '-in', at('expired.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca-key.pem')],
    ...['-days', '-1', '-out', at('expired.pem')],
  ]);
  expect(signed.status, `${args} ${signed.stderr}`).toBe(0);
});

describe('certificates', () => {
  test.each([
    ['an expired one', shows('expired'), '--tls-cert has expired'],
    ['one of another CA', shows('other'), '--tls-cert is of another CA: "CN=other"'],
    ['a CA that is none', shows('hosta', 'hosta.pem'), '--tls-ca is no CA: "CN=hosta"'],
  ])('%s', async (_, files, why) => {
    for (const agent of ['agent-send', 'agent-recv'] as const) {
      const { code, stderr } = await check(agent, ...places(files));
      expect(stderr).toContain(why);
      expect(code).toBe(EXIT.usage);
    }
  });

  test('that are sound, and nobody on the allow-list', async () => {
    expect((await check('agent-send', ...places(shows('hosta')))).code).toBe(EXIT.completed);
    const all = places(shows('hosta'));
    expect(await check('agent-recv', ...all)).toMatchObject({
      code: EXIT.usage,
      stderr: expect.stringContaining('--allow-peer names nobody'),
    });
    expect((await check('agent-recv', ...all, '--allow-peer', 'b')).code).toBe(EXIT.completed);
  });
});

describe('where others could connect without TLS', () => {
  test.each(['0.0.0.0:0', '[::]:0'])('%s is refused by both, for good', async (listen) => {
    const args = places({ listen });
    for (const done of [
      await check('agent-recv', ...args),
      await run('agent-recv', 'serve', ...args),
    ]) {
      expect(done.stderr).toContain('can be reached from other hosts');
      expect(done.code).toBe(EXIT.usage);
    }
    expect((await check('agent-recv', ...args, '--insecure')).code).toBe(EXIT.completed);
  });

  test('a name that there is not', async () => {
    const { code, stderr } = await check('agent-recv', ...places({ listen: 'nowhere.invalid:0' }));
    expect([code, stderr]).toEqual([EXIT.usage, expect.stringContaining('cannot be found')]);
  });
});

describe('directories', () => {
  test.each([
    ['state-dir', '/proc/godwit'],
    ['host-dir', '/proc/self/fd'],
    ['state-dir', '/sys/godwit'],
  ])('--%s %s can hold no files, and that is found at once', async (name, place) => {
    for (const agent of ['agent-send', 'agent-recv'] as const) {
      const args = places({
        [name]: place,
        ...(agent === 'agent-recv' && { listen: '127.0.0.1:0' }),
      });
      const checked = await check(agent, ...args);
      expect(checked).toMatchObject({ code: EXIT.usage, stderr: expect.stringContaining(place) });
      const served = await run(agent, 'serve', ...args);
      expect(served.stderr).toContain(place);
      expect(served.code).toBe(EXIT.usage);
    }
  });

  test('one that others may write to, and one that is missing', async () => {
    fs.mkdirSync(at('open'), { mode: 0o777 });
    fs.chmodSync(at('open'), 0o777);
    const args = places({ 'state-dir': at('open') });
    for (const done of [
      await check('agent-send', ...args),
      await run('agent-send', 'serve', ...args),
    ])
      expect(done).toMatchObject({
        code: EXIT.usage,
        stderr: expect.stringContaining('others may write to'),
      });
    const file = { 'metrics-textfile': at('none', 'agent.prom') };
    for (const done of [
      await check('agent-send', ...places(file)),
      await run('agent-send', 'serve', ...places(file)),
    ])
      expect(done).toMatchObject({
        code: EXIT.usage,
        stderr: expect.stringContaining(at('none', 'agent.prom')),
      });
    for (const name of ['ram-dir', 'definitions'])
      expect(await check('agent-send', ...places({ [name]: at('none') }))).toMatchObject({
        code: EXIT.usage,
        stderr: expect.stringContaining(`--${name} ${at('none')} cannot be used: it is not there`),
      });
  });

  test('that were used with other records', async () => {
    for (const name of ['one', 'two']) {
      fs.mkdirSync(at(name), { mode: 0o700 });
      fs.writeFileSync(at(name, 'id'), `${name}\n`);
    }
    fs.writeFileSync(at('one', 'identity'), JSON.stringify({ journal: 'j', records: 'one' }));
    const args = (host: string) => places({ 'state-dir': at('one'), 'host-dir': at(host) });
    expect((await check('agent-send', ...args('one'))).code).toBe(EXIT.completed);
    for (const done of [
      await check('agent-send', ...args('two')),
      await run('agent-send', 'serve', ...args('two')),
    ])
      expect(done).toMatchObject({
        code: EXIT.usage,
        stderr: expect.stringContaining('was used with other records'),
      });
  });
});

test('a file in the place of the socket', async () => {
  fs.writeFileSync(at('file'), '');
  const { code, stderr } = await run('agent-send', 'serve', ...places({ socket: at('file') }));
  expect([code, stderr]).toEqual([EXIT.usage, expect.stringContaining('is not a socket')]);
});

test('the example of the reference is one that serve takes', async () => {
  const reference = fs.readFileSync(path.join(root, 'docs/reference.md'), 'utf8');
  const example = /^`(\{"listen": .*\})`/m.exec(reference)![1]!;
  const here = example.replaceAll('/etc/godwit', dir).replaceAll('hostb', 'hosta');
  fs.writeFileSync(at('agent-recv.json'), here, { mode: 0o600 });
  const { code, stderr } = await check(
    'agent-recv',
    '--config',
    at('agent-recv.json'),
    ...places(),
  );
  expect([code, stderr]).toEqual([EXIT.completed, '']);
});
