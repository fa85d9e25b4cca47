import { execFileSync } from 'node:child_process';
import type { MetricsOutlets } from '../api/metrics-outlets.ts';
import type { TcpAddress } from '../api/metrics-server.ts';
import { type Agent, type DefaultPaths, defaultPaths } from '../daemon/paths.ts';
import { GodwitError } from '../errors.ts';
import { LOG_FORMATS, LOG_LEVELS, type Logging } from '../log.ts';
import { formatDuration, parseDuration } from '../units.ts';
import type { WebOptions } from '../web/server.ts';
import type { Security } from '../wire/credentials.ts';
import type { Input, Option } from './cli.ts';
import { parseListen } from './listen-address.ts';
import { MAX_SOCKET_PATH, pathOf } from './path-option.ts';
import { securityOf, securityOptions } from './security-options.ts';
import { webOf, webOptions } from './web-options.ts';

/** What either daemon is started with. */
export interface CommonOptions extends DefaultPaths, MetricsOutlets {
  /** ID of the group that may use the control socket, too; undefined: none. */
  readonly socketGroup: number | undefined;
  /** Where RAM files of guests lie: a tmpfs. */
  readonly ramDir: string;
  /** Of the host's libvirtd; undefined: where hosts have it. */
  readonly libvirtSocket: string | undefined;
  /** What Pacemaker calls hosts, by their addresses. */
  readonly clusterNodes: ReadonlyMap<string, string>;
  /** The program of Xen's hosts; undefined: where hosts have it. */
  readonly xl: string | undefined;
  readonly security: Security;
  readonly logging: Logging;
  /** Where its page is served. */
  readonly web: WebOptions | undefined;
  /** A peer that says nothing for so long is given up. */
  readonly peerTimeoutMs: number;
  /** How long a lost connection may take to come back; 0: not at all. */
  readonly reconnectTimeoutMs: number;
}

/** A duration with its bounds, ms. */
interface Duration {
  readonly help: string;
  readonly min: number;
  readonly max: number;
  readonly otherwise: string;
}

const RAM_DIR = '/dev/shm';

const PEER_TIMEOUT: Duration = {
  help: 'a silent peer is given up after this',
  min: 500,
  max: 600_000,
  otherwise: '5s',
};
const RECONNECT_TIMEOUT: Duration = {
  help: 'how long a lost connection may take to come back;\n0s: not at all',
  min: 0,
  max: 3_600_000,
  otherwise: '60s',
};

/** The options of `serve` that both agents have. */
export function commonOptions(agent: Agent): Readonly<Record<string, Option>> {
  const paths = defaultPaths(agent);
  const dir = (help: string, otherwise: string) => ({ value: 'DIR', help, otherwise });
  return {
    socket: { value: 'PATH', help: 'control socket', otherwise: paths.socket },
    'socket-group': {
      value: 'GROUP',
      help: 'its members may use the control socket, too:\nthey can do what the agent can',
      otherwise: "none: only the agent's user",
    },
    'state-dir': dir('journal, ledgers and logs of this agent', paths.stateDir),
    'host-dir': dir(
      'records of who has each guest; the same for both\nagents of a host',
      paths.hostDir,
    ),
    'guest-dir': dir('control sockets of the guests', paths.guestDir),
    definitions: dir('definitions of QEMU guests, NAME.json', paths.definitions),
    'ram-dir': dir('RAM files of guests, a tmpfs', RAM_DIR),
    'libvirt-socket': {
      value: 'PATH',
      help: 'of the libvirtd or virtqemud of this host',
      otherwise: 'that in /run/libvirt, if there is one',
    },
    'cluster-node': {
      value: 'NODE=ADDRESS',
      repeatable: true,
      help: 'the Pacemaker node at an address: while a move is\nopen with it, the cluster is asked whether it was fenced',
      otherwise: 'none: no cluster is asked',
    },
    xl: {
      value: 'PATH',
      help: "the program of that name, on a host of Xen's",
      otherwise: 'that in /usr/sbin, if there is one',
    },
    'peer-timeout': durationOption(PEER_TIMEOUT),
    'reconnect-timeout': durationOption(RECONNECT_TIMEOUT),
    'metrics-listen': {
      value: 'HOST:PORT',
      help: '/metrics and /healthz for whoever can connect there',
      otherwise: 'only at the control socket',
    },
    'metrics-textfile': {
      value: 'PATH',
      help: "the same as a file for node_exporter's textfile\ncollector: NAME.prom in its directory",
      otherwise: 'none',
    },
    ...webOptions,
    'log-level': {
      value: LOG_LEVELS.join('|'),
      help: 'what is less than this is not logged',
      otherwise: LOG_LEVELS[0]!,
    },
    'log-format': {
      value: LOG_FORMATS.join('|'),
      help: 'a line of text or a JSON object for each event',
      otherwise: LOG_FORMATS[0],
    },
    ...securityOptions,
  };
}

/** Those of them that a running daemon takes anew: the others count from its next start. */
export const COMMON_RELOADS: readonly string[] = [
  ...['tls-cert', 'tls-key', 'tls-ca', 'peer-timeout', 'reconnect-timeout'],
  ...['log-level', 'log-format'],
];

/** @throws GodwitError bad-option */
export function commonOptionsOf(agent: Agent, input: Input): CommonOptions {
  const paths = defaultPaths(agent);
  const security = securityOf(input);
  return {
    socket: pathOf(input, 'socket', paths.socket, MAX_SOCKET_PATH),
    socketGroup: socketGroupOf(input.option('socket-group')),
    stateDir: pathOf(input, 'state-dir', paths.stateDir),
    hostDir: pathOf(input, 'host-dir', paths.hostDir),
    guestDir: pathOf(input, 'guest-dir', paths.guestDir),
    definitions: pathOf(input, 'definitions', paths.definitions),
    ramDir: pathOf(input, 'ram-dir', RAM_DIR),
    libvirtSocket:
      input.option('libvirt-socket') === undefined
        ? undefined
        : pathOf(input, 'libvirt-socket', '', MAX_SOCKET_PATH),
    clusterNodes: clusterNodesOf(input.options('cluster-node')),
    xl: input.option('xl') === undefined ? undefined : pathOf(input, 'xl', ''),
    security,
    metricsListen: metricsListenOf(input.option('metrics-listen')),
    metricsTextfile: metricsTextfileOf(input),
    web: webOf(input, security),
    logging: {
      level: oneOf(input, 'log-level', LOG_LEVELS),
      format: oneOf(input, 'log-format', LOG_FORMATS),
    },
    peerTimeoutMs: durationOf(input, 'peer-timeout', PEER_TIMEOUT),
    reconnectTimeoutMs: durationOf(input, 'reconnect-timeout', RECONNECT_TIMEOUT),
  };
}

export function durationOption({ help, min, max, otherwise }: Duration): Option {
  const range = `${formatDuration(min)} to ${formatDuration(max)}`;
  return { value: 'DURATION', help, range, otherwise };
}

/** In ms. @throws GodwitError bad-option */
export function durationOf(input: Input, name: string, { min, max, otherwise }: Duration): number {
  return parseDuration(input.option(name) ?? otherwise, `--${name}`, { min, max });
}

/** Groups are where the host has them, not only in /etc/group. @throws GodwitError bad-option */
function socketGroupOf(name: string | undefined): number | undefined {
  if (name === undefined) return undefined;
  try {
    const line = execFileSync('getent', ['--', 'group', name], { encoding: 'utf8' });
    return Number(line.split(':')[2]);
  } catch (cause) {
    throw new GodwitError('bad-option', `--socket-group: there is no group "${name}"`, { cause });
  }
}

/** `n2=192.0.2.7`, `n2=hostb`. @throws GodwitError bad-option */
function clusterNodesOf(texts: readonly string[]): ReadonlyMap<string, string> {
  const nodes = new Map<string, string>();
  for (const text of texts) {
    const [, node, address] = /^([\w.-]+)=([\w.:-]+)$/.exec(text) ?? [];
    const known = address && nodes.get(address);
    if (node === undefined || address === undefined)
      throw new GodwitError('bad-option', `--cluster-node is NODE=ADDRESS, not "${text}"`);
    if (known && known !== node)
      throw new GodwitError('bad-option', `--cluster-node: ${address} is ${known} and ${node}`);
    nodes.set(address, node);
  }
  return nodes;
}

function metricsListenOf(text: string | undefined): TcpAddress | undefined {
  return text === undefined ? undefined : parseListen(text, '--metrics-listen');
}

/** @throws GodwitError bad-option */
function metricsTextfileOf(input: Input): string | undefined {
  const text = input.option('metrics-textfile');
  if (text === undefined) return undefined;
  if (text.endsWith('.prom')) return pathOf(input, 'metrics-textfile', '');
  const why = 'node_exporter reads no other files than *.prom';
  throw new GodwitError('bad-option', `--metrics-textfile cannot be "${text}": ${why}`);
}

/** The first one is what holds otherwise. @throws GodwitError bad-option */
function oneOf<T extends string>(input: Input, name: string, allowed: readonly T[]): T {
  const text = input.option(name) ?? allowed[0]!;
  const found = allowed.find((value) => value === text);
  if (found !== undefined) return found;
  throw new GodwitError('bad-option', `--${name} is one of ${allowed.join(', ')}, not "${text}"`);
}
