import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Input } from '../../lib/cli/cli.ts';
import { webOf } from '../../lib/cli/web-options.ts';
import type { Security } from '../../lib/wire/credentials.ts';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-web-options-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));

const TOKEN = 'abcdefghijklmnop';
const OPEN: Security = { credentials: undefined, insecure: false };
const TLS: Security = { credentials: { cert: '', key: '', ca: '' }, insecure: false };

function file(name: string, content: string, mode = 0o600): string {
  const made = path.join(dir, name);
  fs.writeFileSync(made, content, { mode });
  return made;
}

function web(security: Security, given: Readonly<Record<string, string>>) {
  return webOf({ option: (name: string) => given[name] } as Input, security);
}

test('a page is off, on this host, on a socket, or on other hosts with a token and TLS', () => {
  const token = file('token', `${TOKEN}\n`);
  expect(web(OPEN, {})).toBeUndefined();
  for (const host of ['127.0.0.1', 'localhost', '[::1]'])
    expect(web(OPEN, { web: `${host}:8470` })).toMatchObject({ token: undefined });
  expect(web(OPEN, { web: '127.0.0.1:8470', 'web-token': token })).toEqual({
    at: { host: '127.0.0.1', port: 8470 },
    token: TOKEN,
  });
  expect(web(OPEN, { web: '/run/godwit/web.sock' })).toEqual({
    at: '/run/godwit/web.sock',
    token: undefined,
  });
  for (const security of [TLS, { ...OPEN, insecure: true }])
    expect(web(security, { web: '0.0.0.0:8470', 'web-token': token })?.token).toBe(TOKEN);
});

test.each([
  [TLS, { web: '0.0.0.0:8470' }, 'can be reached from other hosts: it needs --web-token'],
  [TLS, { web: 'hosta:8470' }, 'can be reached from other hosts'],
  [OPEN, { web: '[::]:8470', 'web-token': 'token' }, 'would send its token as plain text'],
  [OPEN, { web: '8470' }, '--web is HOST:PORT'],
  [OPEN, { web: `/${'x'.repeat(120)}` }, '--web is a path of 1 to 107 bytes'],
  [OPEN, { 'web-token': 'token' }, '--web-token goes with --web'],
  [OPEN, { web: 'localhost:1', 'web-token': 'missing' }, 'cannot be read: ENOENT'],
  [OPEN, { web: 'localhost:1', 'web-token': 'open' }, 'can be read or written by others'],
  [OPEN, { web: 'localhost:1', 'web-token': 'short' }, '16 to 256 printable characters'],
  [OPEN, { web: 'localhost:1', 'web-token': 'two' }, '16 to 256 printable characters'],
] as const)('refuses %#', (security, given, why) => {
  file('token', TOKEN);
  file('open', TOKEN, 0o644);
  file('short', TOKEN.slice(1));
  file('two', `${TOKEN} ${TOKEN}`);
  const named = 'web-token' in given ? { 'web-token': path.join(dir, given['web-token']) } : {};
  const refused = () => web(security, { ...given, ...named });
  expect(refused).toThrow(why);
  expect(refused).not.toThrow(TOKEN);
});
