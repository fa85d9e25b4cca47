import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { type Command, type Input, type Option, print } from '../lib/cli/cli.ts';
import { makeDirectory } from '../lib/directory.ts';
import { GodwitError } from '../lib/errors.ts';
import { EXIT } from '../lib/exit.ts';
import { parseCount } from '../lib/units.ts';

const run = promisify(execFile);
/** Of certificates: long enough not to be renewed in a hurry. */
const DAYS = { min: 1, max: 36_500, otherwise: '3650' };
/** A CA outlives what it signs. */
const CA_DAYS = Number(DAYS.otherwise);

/** openssl(1) makes a key in a moment. */
const OPENSSL_MS = 30_000;

interface Made {
  readonly name: string;
  readonly cert: string;
  readonly key: string;
  readonly fingerprint: string;
}

export const keygen: Command = {
  name: 'keygen',
  arguments: ['HOST…'],
  summary: 'Makes a CA and a certificate for each host, with openssl; a CA that is there is used.',
  options: options('where they are made'),
  async run(input) {
    const { dir, names, days } = wanted(input);
    try {
      makeDirectory(dir);
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code;
      throw new GodwitError('bad-option', `--dir ${dir} cannot be made: ${why}`, { cause });
    }
    const ca = await authority(dir, days);
    const made: Made[] = [];
    for (const name of names) made.push(await certificate(dir, ca, name, days));
    print(input, { ca: ca.cert, certificates: made }, () => words(ca.cert, made));
    return EXIT.completed;
  },
};

export const renew: Command = {
  name: 'renew',
  arguments: ['HOST…'],
  summary: 'Makes new certificates for keys that keygen has made; the keys and the CA stay.',
  options: options('where they were made'),
  async run(input) {
    const { dir, names, days } = wanted(input);
    const ca = authorityIn(dir);
    const missing = names.map((name) => filesOf(dir, name).key).find((key) => !fs.existsSync(key));
    if (ca === undefined || missing !== undefined) {
      const what = ca === undefined ? `CA in ${dir}` : missing;
      throw new GodwitError('bad-option', `there is no ${what}: see keygen`);
    }
    const made: Made[] = [];
    for (const name of names) {
      const { cert, key } = filesOf(dir, name);
      const request = await requestOf(name, key, ['-new', '-key', key]);
      // A certificate that is in use is replaced in one step.
      await sign(request, ca, `${cert}.new`, days);
      fs.renameSync(`${cert}.new`, cert);
      made.push(await madeOf(name, cert, key));
    }
    print(input, { ca: ca.cert, certificates: made }, () => renewedWords(made));
    return EXIT.completed;
  },
};

interface Pair {
  readonly cert: string;
  readonly key: string;
}

function options(dir: string): Readonly<Record<string, Option>> {
  return {
    dir: { value: 'DIR', help: dir, otherwise: './godwit-keys' },
    days: {
      value: 'N',
      help: 'how long certificates are valid',
      range: `${DAYS.min} to ${DAYS.max}`,
      otherwise: DAYS.otherwise,
    },
  };
}

/** @throws GodwitError bad-option */
function wanted(input: Input): { dir: string; names: readonly string[]; days: number } {
  const dir = path.resolve(input.option('dir') ?? 'godwit-keys');
  const names = input.arguments;
  const wrong = names.find((name) => !/^[A-Za-z0-9][A-Za-z0-9.:-]{0,63}$/.test(name));
  if (wrong !== undefined)
    throw new GodwitError('bad-option', `"${wrong}" is not a host name or an address`);
  return { dir, names, days: parseCount(input.option('days') ?? DAYS.otherwise, '--days', DAYS) };
}

function filesOf(dir: string, name: string): Pair {
  const base = path.join(dir, name.replaceAll(':', '_'));
  return { cert: `${base}.pem`, key: `${base}-key.pem` };
}

/** Undefined where none is. @throws GodwitError bad-option */
function authorityIn(dir: string): Pair | undefined {
  const ca = { cert: path.join(dir, 'ca.pem'), key: path.join(dir, 'ca-key.pem') };
  const there = [ca.cert, ca.key].filter((file) => fs.existsSync(file));
  if (there.length === 2) return ca;
  if (there.length === 1)
    throw new GodwitError(
      'bad-option',
      `a CA is a certificate and its key, and only ${there[0]} is there; it is not overwritten`,
    );
  return undefined;
}

async function authority(dir: string, days: number): Promise<Pair> {
  const there = authorityIn(dir);
  if (there !== undefined) return there;
  const ca = filesOf(dir, 'ca');
  await openssl([
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...[
      '-days',
      `${Math.max(CA_DAYS, days)}`,
      '-subj',
      '/CN=Godwit CA',
      '-keyout',
      ca.key,
      '-out',
      ca.cert,
    ],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  ]);
  return ca;
}

async function certificate(dir: string, ca: Pair, name: string, days: number): Promise<Made> {
  const { cert, key } = filesOf(dir, name);
  const there = [cert, key].find((file) => fs.existsSync(file));
  if (there)
    throw new GodwitError('bad-option', `${there} is there already; it is not overwritten`);
  const anew = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key];
  await sign(await requestOf(name, key, anew), ca, cert, days);
  return madeOf(name, cert, key);
}

/** The file of a request for a certificate of that name. */
async function requestOf(name: string, key: string, how: readonly string[]): Promise<string> {
  const request = `${key}.csr`;
  const kind = net.isIP(name) ? 'IP' : 'DNS';
  await openssl([
    ...['req', ...how, '-subj', `/CN=${name}`, '-out', request],
    ...['-addext', `subjectAltName=${kind}:${name}`],
    ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
  ]);
  return request;
}

async function sign(request: string, ca: Pair, cert: string, days: number): Promise<void> {
  await openssl([
    ...['x509', '-req', '-in', request, '-CA', ca.cert, '-CAkey', ca.key, '-days', `${days}`],
    ...['-copy_extensions', 'copy', '-out', cert],
  ]);
  fs.rmSync(request);
}

async function madeOf(name: string, cert: string, key: string): Promise<Made> {
  const { stdout } = await openssl(['x509', '-in', cert, '-noout', '-fingerprint', '-sha256']);
  const fingerprint = stdout.trim().replace(/^.*=/, '').replaceAll(':', '').toLowerCase();
  return { name, cert, key, fingerprint };
}

/** Keys are made for the owner's eyes only. */
async function openssl(args: readonly string[]): Promise<{ stdout: string }> {
  const umask = process.umask(0o077);
  try {
    return await run('openssl', args, { timeout: OPENSSL_MS });
  } catch (cause) {
    const { code, stderr = '' } = cause as { code?: unknown; stderr?: string };
    const why =
      code === 'ENOENT'
        ? 'openssl is not installed: apt-get install openssl'
        : `openssl failed: ${stderr.trim().split('\n').at(-1)}`;
    throw new GodwitError('bad-option', why, { cause });
  } finally {
    process.umask(umask);
  }
}

function words(ca: string, made: readonly Made[]): string {
  const hosts = made.map(
    ({ name, cert, key, fingerprint }) => `${name}:
  copy ${cert}, ${key} and ${ca} there, and start its agents with
    --tls-cert ${path.basename(cert)} --tls-key ${path.basename(key)} --tls-ca ${path.basename(ca)}
  a receiver that is to admit it: --allow-peer ${name}
    or                            --allow-peer sha256:${fingerprint}
`,
  );
  return `${hosts.join('')}Keep ca-key.pem to yourself: whoever has it can make certificates for any host.\n`;
}

function renewedWords(made: readonly Made[]): string {
  const hosts = made.map(
    ({ name, cert, fingerprint }) => `${name}:
  copy ${cert} there, and have its agents take it: systemctl reload, or kill -HUP
  where it is admitted by fingerprint: --allow-peer sha256:${fingerprint}
`,
  );
  return hosts.join('');
}
