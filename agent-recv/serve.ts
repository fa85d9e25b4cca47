import type { Input } from '../lib/control/cli.ts';
import { defaultPaths } from '../lib/control/paths.ts';
import { securityOf, securityOptions } from '../lib/control/security-options.ts';
import { serveCommand } from '../lib/control/serve.ts';
import { GodwitError } from '../lib/errors.ts';
import { parseCount, parseDuration } from '../lib/units.ts';
import { AllowList } from '../lib/wire/tls.ts';
import type { RecvDaemonOptions } from './options.ts';

const paths = defaultPaths('agent-recv');
/** Each takes a worker and some 50 MiB a channel. */
const DEFAULT_MIGRATIONS = 8;
const PORTS = { min: 1, max: 65535 };

export const serve = serveCommand({
  options: {
    listen: {
      value: 'HOST:PORT',
      help: 'where senders connect; beyond this host only\nwith TLS or --insecure',
      otherwise: '127.0.0.1:7070',
    },
    'data-ports': {
      value: 'FIRST-LAST',
      help: 'ports for data connections, one per channel and migration',
      range: '1-65535',
      otherwise: 'any free one',
    },
    'guest-dir': {
      value: 'DIR',
      help: 'control sockets of received guests',
      otherwise: paths.guestDir,
    },
    definitions: {
      value: 'DIR',
      help: 'definitions of QEMU guests, NAME.json',
      otherwise: paths.definitions,
    },
    'ram-dir': { value: 'DIR', help: 'RAM files, a tmpfs', otherwise: '/dev/shm' },
    'state-dir': { value: 'DIR', help: 'state', otherwise: paths.stateDir },
    'peer-timeout': {
      value: 'DURATION',
      help: 'a silent sender is given up after this',
      range: '500ms to 10m',
      otherwise: '5s',
    },
    'reconnect-timeout': {
      value: 'DURATION',
      help: 'how long a sender that was lost may take to come back',
      range: '0s to 1h, 0s: not at all',
      otherwise: '60s',
    },
    ...securityOptions,
    'allow-peer': {
      value: 'NAME',
      repeatable: true,
      help: "a sender to admit, by its certificate's name or\nsha256:FINGERPRINT; with TLS, nobody else is",
      otherwise: 'nobody',
    },
    'max-migrations': {
      value: 'N',
      help: 'migrations taken at once',
      range: '1 to 256',
      otherwise: String(DEFAULT_MIGRATIONS),
    },
    socket: { value: 'PATH', help: 'control socket', otherwise: paths.socket },
  },
  parse: optionsOf,
  async start(options) {
    // Only the daemon needs workers and the protocol; the other commands start faster without.
    const { startRecvDaemon } = await import('./daemon.ts');
    return startRecvDaemon(options);
  },
});

function optionsOf(input: Input): RecvDaemonOptions {
  const { option } = input;
  const { host, port } = addressOf(option('listen') ?? '127.0.0.1:7070');
  return {
    socket: option('socket') ?? paths.socket,
    stateDir: option('state-dir') ?? paths.stateDir,
    guestDir: option('guest-dir') ?? paths.guestDir,
    definitions: option('definitions') ?? paths.definitions,
    ramDir: option('ram-dir') ?? '/dev/shm',
    security: securityOf(input),
    allowed: new AllowList(input.options('allow-peer')),
    maxMigrations: parseCount(
      option('max-migrations') ?? String(DEFAULT_MIGRATIONS),
      '--max-migrations',
      {
        min: 1,
        max: 256,
      },
    ),
    listenHost: host,
    listenPort: port,
    dataPorts: rangeOf(option('data-ports')),
    peerTimeoutMs: parseDuration(option('peer-timeout') ?? '5s', '--peer-timeout', {
      min: 500,
      max: 600_000,
    }),
    reconnectTimeoutMs: parseDuration(option('reconnect-timeout') ?? '60s', '--reconnect-timeout', {
      min: 0,
      max: 3_600_000,
    }),
  };
}

function addressOf(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text);
  if (!match) throw new GodwitError('bad-option', `--listen is HOST:PORT, not "${text}"`);
  return {
    host: match[1] ?? match[2]!,
    port: parseCount(match[3]!, '--listen', { ...PORTS, min: 0 }),
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
