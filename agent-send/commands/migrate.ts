import path from 'node:path';
import { type Command, type Input, print } from '../../lib/control/cli.ts';
import { Manage } from '../../lib/control/manage.ts';
import {
  EXIT,
  type GuestView,
  type LimitsPatch,
  type MigrationRequest,
  type MigrationView,
} from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import type { Outcome } from '../../lib/report/records.ts';
import { formatSize, parseCount } from '../../lib/units.ts';
import { MAX_CHANNELS } from '../../lib/wire/handshake.ts';
import { conclude, follow } from './follow.ts';
import { limitOptions, patchOf } from './limit-options.ts';

export const manage = new Manage('agent-send');

const DEFAULT_PORT = 7070;

const EXIT_OF: Record<Outcome, number> = {
  completed: EXIT.completed,
  aborted: EXIT['aborted-by-policy'],
  cancelled: EXIT.cancelled,
  failed: EXIT.failed,
  'needs-resolve': EXIT['needs-resolve'],
};

export const migrate: Command = {
  name: 'migrate',
  arguments: ['GUEST', 'HOST[:PORT]'],
  summary: 'Moves a running guest to another host and shows how it goes.',
  options: {
    ...limitOptions,
    policy: { value: 'contract|xen|custom', help: 'who decides', otherwise: 'contract' },
    'policy-module': {
      value: 'FILE.ts',
      help: 'policy custom: ES module that exports policy(stats, limits)',
    },
    channels: {
      value: 'N',
      help: 'data connections',
      range: `1 to ${MAX_CHANNELS}`,
      otherwise: "the daemon's",
    },
    'no-compression': { help: 'send pages as they are, however slow the link' },
    verify: { help: 're-read all destination memory while the guest is suspended' },
    detach: { help: 'return when the migration has begun' },
    socket: manage.socket,
  },
  async run(input) {
    const client = manage.client(input);
    const started = await client.request<MigrationView>('POST', '/migrations', requestOf(input));
    if (input.flag('detach')) {
      print(input, started, ({ id }) => `${id}\n`);
      return EXIT.completed;
    }
    const ended = await follow(input, client, started.id);
    await conclude(input, client, ended);
    return EXIT_OF[ended.outcome!];
  },
};

export const guests: Command = {
  name: 'guests',
  arguments: [],
  summary: 'Lists the guests of this host.',
  options: { socket: manage.socket },
  async run(input) {
    const answer = await manage.client(input).request<{ guests: GuestView[] }>('GET', '/guests');
    print(input, answer, ({ guests }) =>
      guests.length === 0
        ? 'no guests\n'
        : guests
            .map(
              (g) =>
                `${g.name}  ${g.hypervisor}  ${g.status}  ${g.memoryBytes > 0 ? formatSize(g.memoryBytes) : ''}\n`,
            )
            .join(''),
    );
    return EXIT.completed;
  },
};

/** @throws GodwitError bad-option before anything is started */
function requestOf(input: Input): MigrationRequest {
  const { option } = input;
  const [guest, target] = input.arguments as [string, string];
  const module = option('policy-module');
  const policy = policyOf(option('policy') ?? (module === undefined ? 'contract' : 'custom'));
  if ((module === undefined) !== (policy !== 'custom'))
    throw new GodwitError(
      'bad-option',
      '--policy-module goes with --policy custom, and the other way round',
    );
  const patch = patchOf(input);
  const { bandwidth: _, ...given } = patch;
  policyLimits(policy, given); // refuses what this policy cannot do without, too
  const { bandwidth, ...limits } = withoutNulls(patch);
  const channels = option('channels');
  return {
    guest,
    ...addressOf(target),
    policy,
    ...(module === undefined ? {} : { policyModule: path.resolve(module) }),
    limits,
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(channels === undefined
      ? {}
      : { channels: parseCount(channels, '--channels', { min: 1, max: MAX_CHANNELS }) }),
    compression: input.flag('no-compression') ? 'off' : 'auto',
    verify: input.flag('verify'),
  };
}

function policyOf(name: string): MigrationRequest['policy'] {
  if (name === 'contract' || name === 'xen' || name === 'custom') return name;
  throw new GodwitError('bad-option', `--policy is contract, xen or custom, not "${name}"`);
}

/** HOST, HOST:PORT, [IPV6]:PORT. @throws GodwitError bad-option */
function addressOf(target: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(target);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? DEFAULT_PORT);
  if (host === undefined || port < 1 || port > 65535)
    throw new GodwitError(
      'bad-option',
      `HOST[:PORT] is a name, an IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535, not "${target}"`,
    );
  return { host, port };
}

/** A limit that can be "none" is none when it is not given. */
function withoutNulls(patch: LimitsPatch) {
  return Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== null)) as Partial<
    MigrationRequest['limits']
  > & { bandwidth?: number };
}
