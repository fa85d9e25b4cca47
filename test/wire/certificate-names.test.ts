import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { PeerCertificate } from 'node:tls';
import { afterAll, expect, test } from 'vitest';
import { AllowList, fingerprintOf, identityOf, namesOf } from '../../lib/wire/certificate-names.ts';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-names-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));

const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'key.pem');

/** A certificate as a connection shows it. @param names lines of openssl's section of alternative names */
function certificate(subject: string, ...names: string[]): PeerCertificate {
  const extension = names.length > 0 ? ['x509_extensions = ext'] : [];
  const config = [
    ...['[req]', 'distinguished_name = dn', 'prompt = no', ...extension, '[dn]', subject],
    ...['[ext]', 'subjectAltName = @names', '[names]', ...names, '[section]', 'CN = DNS:hosta'],
  ];
  fs.writeFileSync(path.join(dir, 'config'), config.join('\n'));
  const pem = openssl('req', '-x509', '-new', '-key', 'key.pem', '-config', 'config', '-days', '1');
  return new X509Certificate(pem).toLegacyObject() as unknown as PeerCertificate;
}

const admits = (shown: PeerCertificate, ...entries: string[]) =>
  new AllowList(entries).admits(shown);

test.each([
  ['a DNS name', 'O = x', 'DNS.1 = hosta'],
  ['one of several', 'O = x', 'DNS.1 = other', 'URI.1 = spiffe://x/y', 'DNS.2 = HostA'],
  ['a common name, if it has no other name', 'CN = hosta'],
  ['a common name beside names of no host', 'CN = hosta', 'email.1 = root@x'],
  ['a name beside one that is quoted', 'O = x', 'URI.1 = "x\\,y"', 'DNS.1 = hosta'],
])('%s is the name of a host', (_, subject, ...names) => {
  expect(admits(certificate(subject, ...names), 'hosta')).toBe(true);
});

test.each([
  ['a URI that reads like one', 'O = x', 'URI.1 = DNS:hosta'],
  ['an e-mail address that reads like one', 'O = x', 'email.1 = DNS:hosta'],
  ['a URI with one after a comma', 'O = x', 'URI.1 = "x\\, DNS:hosta"'],
  ['an e-mail address with quotes and one', 'O = x', 'email.1 = "\\"x\\", DNS:hosta, \\""'],
  ['another name of some type', 'O = x', 'otherName.1 = 1.3.6.1.4.1.311.20.2.3;UTF8:DNS:hosta'],
  ['a directory name', 'O = x', 'dirName.1 = section'],
  ['a host beginning with one', 'O = x', 'DNS.1 = hosta.example'],
  ['a wildcard', 'O = x', 'DNS.1 = *', 'DNS.2 = host*'],
  ['a common name beside another host', 'CN = hosta', 'DNS.1 = other'],
  ['a common name beside an address', 'CN = hosta', 'IP.1 = 10.0.0.1'],
  ['one of two common names', '0.CN = hosta\n1.CN = other'],
  ['another part of the subject', 'O = hosta'],
  ['a common name with more in it', 'CN = "hosta\\, DNS:hosta"'],
])('%s is not the name of a host', (_, subject, ...names) => {
  expect(admits(certificate(subject, ...names), 'hosta')).toBe(false);
});

test('an address is one, however it is written, and no host is called like it', () => {
  const shown = certificate('O = x', 'IP.1 = 10.0.0.1', 'IP.2 = 2001:db8::1', 'DNS.1 = 10.0.0.2');
  expect(admits(shown, '10.0.0.1')).toBe(true);
  expect(admits(shown, '2001:0DB8:0:0::1')).toBe(true);
  expect(admits(shown, '10.0.0.2')).toBe(false);
  expect(admits(certificate('CN = 10.0.0.1'), '10.0.0.1')).toBe(false);
});

test('text that Node would not write has no names', () => {
  const shown = (subjectaltname: string) => ({ subjectaltname }) as PeerCertificate;
  for (const text of ['DNS', 'DNS:a;DNS:hosta', 'DNS:"hosta', 'x"DNS:hosta', ', DNS:hosta'])
    expect(namesOf(shown(text)).map(({ value }) => value)).not.toContain('hosta');
  expect(namesOf(shown(''))).toEqual([]);
});

test('a fingerprint admits that very certificate', () => {
  const shown = certificate('O = x');
  const print = fingerprintOf(shown);
  expect(admits(shown, `sha256:${print.toUpperCase()}`)).toBe(true);
  expect(admits(certificate('O = y'), `sha256:${print}`)).toBe(false);
  expect(() => new AllowList(['sha256:00'])).toThrow('is not a SHA-256 fingerprint');
  expect(admits(shown)).toBe(false);
});

test('who a certificate stands for is told by all its names, or by itself alone', () => {
  const hosta = ['O = x', 'DNS.1 = hosta', 'IP.1 = 10.0.0.1'] as const;
  const of = (subject: string, ...names: string[]) => identityOf(certificate(subject, ...names));
  expect(of('O = y', 'IP.1 = 10.0.0.1', 'DNS.1 = HostA')).toBe(of(...hosta));
  expect(of('O = x', 'DNS.1 = hosta')).not.toBe(of(...hosta));
  expect(of('O = x', 'DNS.1 = hosta', 'IP.1 = 10.0.0.2')).not.toBe(of(...hosta));
  expect(of('CN = "a", "host b"')).not.toBe(of('O = x', 'DNS.1 = a', 'DNS.2 = b'));
  const nameless = certificate('O = x', 'email.1 = root@x');
  expect(identityOf(nameless)).toBe(fingerprintOf(nameless));
  expect(of('O = x', 'email.1 = root@x')).not.toBe(identityOf(nameless)); // another serial number
  expect(identityOf({} as PeerCertificate)).toBe('');
});
