import os from 'node:os';
import type { Input } from '../../lib/control/cli.ts';
import { defaultPaths } from '../../lib/control/paths.ts';
import { securityOf, securityOptions } from '../../lib/control/security-options.ts';
import { serveCommand } from '../../lib/control/serve.ts';
import { parseCount, parseDuration } from '../../lib/units.ts';
import { MAX_CHANNELS } from '../../lib/wire/handshake.ts';
import type { SendDaemonOptions } from '../options.ts';

const paths = defaultPaths('agent-send');
/** More channels than this gain nothing on a link that one core can fill. */
const DEFAULT_CHANNELS = Math.min(4, os.availableParallelism());

export const serve = serveCommand({
  options: {
    socket: { value: 'PATH', help: 'control socket', otherwise: paths.socket },
    'state-dir': { value: 'DIR', help: 'ledgers', otherwise: paths.stateDir },
    'guest-dir': {
      value: 'DIR',
      help: 'control sockets of the guests',
      otherwise: paths.guestDir,
    },
    definitions: {
      value: 'DIR',
      help: 'definitions of QEMU guests, NAME.json',
      otherwise: paths.definitions,
    },
    'ram-dir': { value: 'DIR', help: 'where their RAM files lie', otherwise: '/dev/shm' },
    channels: {
      value: 'N',
      help: 'data connections of a migration',
      range: `1 to ${MAX_CHANNELS}`,
      otherwise: String(DEFAULT_CHANNELS),
    },
    'peer-timeout': {
      value: 'DURATION',
      help: 'a silent peer is given up after this',
      range: '500ms to 10m',
      otherwise: '5s',
    },
    'connect-timeout': {
      value: 'DURATION',
      help: 'longest wait for a connection',
      range: '500ms to 10m',
      otherwise: '5s',
    },
    ...securityOptions,
    'reconnect-timeout': {
      value: 'DURATION',
      help: 'how long a lost connection is tried again',
      range: '0s to 1h, 0s: not at all',
      otherwise: '60s',
    },
  },
  parse: optionsOf,
  async start(options) {
    // Only the daemon needs workers and the protocol; the other commands start faster without.
    const { startSendDaemon } = await import('../daemon.ts');
    return startSendDaemon(options);
  },
});

function optionsOf(input: Input): SendDaemonOptions {
  const { option } = input;
  const duration = (name: string) =>
    parseDuration(option(name) ?? '5s', `--${name}`, { min: 500, max: 600_000 });
  return {
    socket: option('socket') ?? paths.socket,
    stateDir: option('state-dir') ?? paths.stateDir,
    guestDir: option('guest-dir') ?? paths.guestDir,
    definitions: option('definitions') ?? paths.definitions,
    ramDir: option('ram-dir') ?? '/dev/shm',
    channels: parseCount(option('channels') ?? String(DEFAULT_CHANNELS), '--channels', {
      min: 1,
      max: MAX_CHANNELS,
    }),
    security: securityOf(input),
    peerTimeoutMs: duration('peer-timeout'),
    connectTimeoutMs: duration('connect-timeout'),
    reconnectTimeoutMs: parseDuration(option('reconnect-timeout') ?? '60s', '--reconnect-timeout', {
      min: 0,
      max: 3_600_000,
    }),
  };
}
