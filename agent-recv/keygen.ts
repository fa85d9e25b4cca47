import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { type Command, print } from '../lib/control/cli.ts';
import { EXIT } from '../lib/control/view.ts';
import { GodwitError } from '../lib/errors.ts';

const run = promisify(execFile);
/** Of certificates: long enough not to be renewed in a hurry. */
const DAYS = '3650';

interface Made {
  readonly name: string;
  readonly cert: string;
  readonly key: string;
  readonly fingerprint: string;
}

export const keygen: Command = {
  name: 'keygen',
  arguments: ['HOST', '[HOST]', '[HOST]', '[HOST]'],
  summary: 'Makes a CA and a certificate for each host, with openssl; a CA that is there is used.',
  options: {
    dir: { value: 'DIR', help: 'where they are made', otherwise: './godwit-keys' },
  },
  async run(input) {
    const dir = path.resolve(input.option('dir') ?? 'godwit-keys');
    const wrong = input.arguments.find((name) => !/^[A-Za-z0-9][A-Za-z0-9.:-]{0,63}$/.test(name));
    if (wrong !== undefined)
      throw new GodwitError('bad-option', `"${wrong}" is not a host name or an address`);
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    const ca = await authority(dir);
    const made: Made[] = [];
    for (const name of input.arguments) made.push(await certificate(dir, ca, name));
    print(input, { ca: ca.cert, certificates: made }, () => words(ca.cert, made));
    return EXIT.completed;
  },
};

async function authority(dir: string): Promise<{ cert: string; key: string }> {
  const ca = { cert: path.join(dir, 'ca.pem'), key: path.join(dir, 'ca-key.pem') };
  if (fs.existsSync(ca.cert) && fs.existsSync(ca.key)) return ca;
  await openssl([
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-days', DAYS, '-subj', '/CN=Godwit CA', '-keyout', ca.key, '-out', ca.cert],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  ]);
  return ca;
}

async function certificate(
  dir: string,
  ca: { cert: string; key: string },
  name: string,
): Promise<Made> {
  const base = path.join(dir, name.replaceAll(':', '_'));
  const [cert, key, request] = [`${base}.pem`, `${base}-key.pem`, `${base}.csr`];
  const there = [cert, key].find((file) => fs.existsSync(file));
  if (there)
    throw new GodwitError('bad-option', `${there} is there already; it is not overwritten`);
  const kind = net.isIP(name) ? 'IP' : 'DNS';
  await openssl([
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', `/CN=${name}`, '-keyout', key, '-out', request],
    ...['-addext', `subjectAltName=${kind}:${name}`],
    ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
  ]);
  await openssl([
    ...['x509', '-req', '-in', request, '-CA', ca.cert, '-CAkey', ca.key, '-days', DAYS],
    ...['-copy_extensions', 'copy', '-out', cert],
  ]);
  fs.rmSync(request);
  const { stdout } = await openssl(['x509', '-in', cert, '-noout', '-fingerprint', '-sha256']);
  const fingerprint = stdout.trim().replace(/^.*=/, '').replaceAll(':', '').toLowerCase();
  return { name, cert, key, fingerprint };
}

/** Keys are made for the owner's eyes only. */
async function openssl(args: readonly string[]): Promise<{ stdout: string }> {
  const umask = process.umask(0o077);
  try {
    return await run('openssl', args);
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
