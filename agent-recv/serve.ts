import path from 'node:path';
import type { Input } from '../lib/cli/cli.ts';
import { parseListen } from '../lib/cli/listen-address.ts';
import { serveCommand } from '../lib/cli/serve.ts';
import { COMMON_RELOADS, commonOptions, commonOptionsOf } from '../lib/cli/serve-options.ts';
import { requireListenable } from '../lib/cli/sound.ts';
import { GodwitError } from '../lib/errors.ts';
import { parseCount } from '../lib/units.ts';
import { AllowList } from '../lib/wire/certificate-names.ts';
import type { RecvDaemonOptions } from './options.ts';

const LISTEN = '127.0.0.1:7070';
/** Each takes some MiB a lane, and 12 bytes for each page of its guest. */
const MIGRATIONS = { min: 1, max: 256, otherwise: '8' };
const PORTS = { min: 1, max: 65535 };

export const serve = serveCommand({
  options: {
    listen: {
      value: 'HOST:PORT',
      help: 'where senders connect; beyond this host only\nwith TLS or --insecure',
      otherwise: LISTEN,
    },
    'data-ports': {
      value: 'FIRST-LAST',
      help: 'ports for data connections, one per lane and migration',
      range: `${PORTS.min}-${PORTS.max}`,
      otherwise: 'any free one',
    },
    ...commonOptions('agent-recv'),
    'allow-peer': {
      value: 'NAME',
      repeatable: true,
      help: "a sender to admit, by its certificate's name or\nsha256:FINGERPRINT; with TLS, nobody else is",
      otherwise: 'nobody',
    },
    'libvirt-allow-path': {
      value: 'PATH',
      repeatable: true,
      help: 'a file, or a directory with all that is in it, that\na libvirt domain that arrives may have',
      otherwise: 'none',
    },
    'libvirt-allow-network': {
      value: 'NAME',
      repeatable: true,
      help: 'a libvirt network or a bridge that it may have',
      otherwise: 'none',
    },
    'xen-allow-path': {
      value: 'PATH',
      repeatable: true,
      help: 'a file, or a directory with all that is in it, that\na Xen domain that arrives may have',
      otherwise: 'none',
    },
    'xen-allow-bridge': {
      value: 'NAME',
      repeatable: true,
      help: 'a bridge that it may have',
      otherwise: 'none',
    },
    'max-migrations': {
      value: 'N',
      help: 'migrations taken at once',
      range: `${MIGRATIONS.min} to ${MIGRATIONS.max}`,
      otherwise: MIGRATIONS.otherwise,
    },
  },
  reloads: [...COMMON_RELOADS, 'allow-peer', 'max-migrations', 'data-ports'],
  parse: optionsOf,
  async check(settings) {
    const { listenHost, security, allowed } = settings;
    await requireListenable(listenHost, security);
    if (security.credentials !== undefined && allowed.isEmpty)
      throw new GodwitError(
        'bad-option',
        '--allow-peer names nobody: with TLS no sender is admitted',
      );
    const { Ownership } = await import('../lib/ownership/ownership.ts');
    const { DESTINATION_STATES } = await import('../lib/ownership/destination-machine.ts');
    Ownership.inspect(DESTINATION_STATES, settings);
  },
  async start(options) {
    // Only the daemon needs workers and the protocol; the other commands start faster without.
    const { startRecvDaemon } = await import('./start.ts');
    return startRecvDaemon(options);
  },
});

function optionsOf(input: Input): RecvDaemonOptions {
  const { option } = input;
  const { host, port } = parseListen(option('listen') ?? LISTEN, '--listen');
  const migrations = option('max-migrations') ?? MIGRATIONS.otherwise;
  return {
    ...commonOptionsOf('agent-recv', input),
    allowed: new AllowList(input.options('allow-peer')),
    libvirtAllowed: {
      paths: input.options('libvirt-allow-path').map(absolutePath('--libvirt-allow-path')),
      networks: input.options('libvirt-allow-network'),
    },
    xenAllowed: {
      paths: input.options('xen-allow-path').map(absolutePath('--xen-allow-path')),
      bridges: input.options('xen-allow-bridge'),
    },
    maxMigrations: parseCount(migrations, '--max-migrations', MIGRATIONS),
    listenHost: host,
    listenPort: port,
    dataPorts: rangeOf(option('data-ports')),
  };
}

function absolutePath(option: string): (text: string) => string {
  return (text) => {
    if (path.isAbsolute(text)) return path.normalize(text);
    const shown = JSON.stringify(text.slice(0, 80));
    throw new GodwitError('bad-option', `${option} is an absolute path, not ${shown}`);
  };
}

function rangeOf(text: string | undefined): RecvDaemonOptions['dataPorts'] {
  if (text === undefined) return undefined;
  const match = /^(\d+)-(\d+)$/.exec(text);
  if (!match)
    throw new GodwitError('bad-option', `--data-ports is FIRST-LAST, 1-65535, not "${text}"`);
  const first = parseCount(match[1]!, '--data-ports', PORTS);
  return { first, last: parseCount(match[2]!, '--data-ports', { ...PORTS, min: first }) };
}
