import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { root, run } from './run.ts';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-keygen-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));

const certificate = (name: string) =>
  new X509Certificate(fs.readFileSync(path.join(dir, `${name}.pem`)));
const daysLeft = (name: string) =>
  (Date.parse(certificate(name).validTo) - Date.now()) / 86_400_000;

test('keygen makes certificates for any number of hosts; renew makes them anew for the same keys', async () => {
  const names = ['a', 'b', 'c', 'd', 'e', '10.0.0.7', 'fe80::1'];
  const made = await run('agent-recv', 'keygen', ...names, '--dir', dir, '--days', '20');
  expect(made.code, made.stderr).toBe(0);
  const key = () => fs.readFileSync(path.join(dir, 'b-key.pem'), 'utf8');
  const [before, old] = [key(), certificate('b')];
  expect(daysLeft('b')).toBeCloseTo(20, 0);
  expect(certificate('10.0.0.7').checkIP('10.0.0.7')).toBe('10.0.0.7');

  const renewed = await run('agent-recv', 'renew', 'b', '--dir', dir, '--days', '400');
  expect(renewed.code, renewed.stderr).toBe(0);
  expect(daysLeft('b')).toBeCloseTo(400, 0);
  expect(certificate('b').checkHost('b')).toBe('b');
  expect(certificate('b').verify(certificate('ca').publicKey)).toBe(true);
  expect(certificate('b').fingerprint256).not.toBe(old.fingerprint256);
  expect(key()).toBe(before);
  expect(fs.readdirSync(dir)).toHaveLength(2 + 2 * names.length); // no request, nothing half made
  for (const name of fs.readdirSync(dir))
    expect(fs.statSync(path.join(dir, name)).mode & 0o077, name).toBe(0);
});

test('what renew cannot do, it says', async () => {
  for (const [args, why] of [
    [['renew', 'nobody', '--dir', dir], 'there is no '],
    [['renew', 'a', '--dir', path.join(dir, 'none')], 'there is no CA in '],
    [['keygen', 'x', '--dir', dir, '--days', '0'], '1 to 36500'],
  ] as const) {
    const { code, stderr } = await run('agent-recv', ...args);
    expect(stderr).toContain(why);
    expect(code).toBe(EXIT.usage);
  }
});

test.skipIf(spawnSync('git', ['-C', root, 'rev-parse']).status !== 0)(
  'no key gets into the repository by accident',
  () => {
    const files = ['keys/ca-key.pem', 'godwit-keys/x', 'hosta-key.pem', 'lib/a.csr', 'host.key'];
    const ignored = execFileSync('git', ['-C', root, 'check-ignore', ...files], {
      encoding: 'utf8',
    });
    expect(ignored.trim().split('\n')).toEqual(files);
  },
);
