import path from 'node:path';
import { type Command, type Input, print } from '../../lib/control/cli.ts';
import type { ControlClient } from '../../lib/control/client.ts';
import { Manage } from '../../lib/control/manage.ts';
import { LineFilter, progressBar, progressLine } from '../../lib/control/progress.ts';
import {
  EXIT,
  type GuestView,
  type LimitsPatch,
  type MigrationRequest,
  type MigrationView,
} from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import type { Outcome } from '../../lib/report/records.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';
import { formatSize, parseCount } from '../../lib/units.ts';
import { MAX_CHANNELS } from '../../lib/wire/handshake.ts';
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
    policy: { value: 'contract|xen|custom', help: 'who decides (default contract)' },
    'policy-module': {
      value: 'FILE.ts',
      help: 'policy custom: ES module that exports policy(stats, limits)',
    },
    channels: {
      value: 'N',
      help: `data connections, 1 to ${MAX_CHANNELS} (default: the daemon's)`,
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
  const { bandwidth, ...limits } = withoutNulls(patchOf(input));
  policyLimits(policy, limits);
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

/** "none" at the start is the same as not given. */
function withoutNulls(patch: LimitsPatch) {
  return Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== null)) as Partial<
    MigrationRequest['limits']
  > & { bandwidth?: number };
}

/** Shows progress until the end. Ctrl-C cancels; a second one leaves the migration alone. */
async function follow(input: Input, client: ControlClient, id: string): Promise<MigrationView> {
  const onInterrupt = () => {
    process.once('SIGINT', () => {
      process.stderr.write(`\nmigration ${id} goes on; look at it with: agent-send show ${id}\n`);
      process.exit(EXIT.failed);
    });
    process.stderr.write('\ncancelling; Ctrl-C again leaves it to the daemon\n');
    client.request('POST', `/migrations/${id}/cancel`).catch((error: Error) => {
      process.stderr.write(`agent-send: ${error.message}\n`);
    });
  };
  process.once('SIGINT', onInterrupt);
  const show = input.json ? showJson : process.stdout.isTTY ? showBar : plainLines();
  try {
    for await (const view of client.events(id)) {
      show(view);
      if (view.phase === 'ended') return view;
    }
  } finally {
    process.off('SIGINT', onInterrupt);
  }
  throw new GodwitError(
    'daemon-unreachable',
    `the daemon went away in the middle of migration ${id}; its ledger tells how far it came`,
  );
}

function showJson(view: MigrationView): void {
  process.stdout.write(`${JSON.stringify(view)}\n`);
}

function showBar(view: MigrationView): void {
  const text = progressBar(view, (process.stdout.columns ?? 80) - 1);
  process.stdout.write(`\r\x1b[K${text}${view.phase === 'ended' ? '\n' : ''}`);
}

function plainLines(): (view: MigrationView) => void {
  const filter = new LineFilter();
  return (view) => {
    if (filter.wants(view)) process.stdout.write(`${progressLine(view)}\n`);
  };
}

async function conclude(input: Input, client: ControlClient, ended: MigrationView): Promise<void> {
  if (input.json) return; // the last view says it all
  const records = parseLedger(await client.text(`/migrations/${ended.id}/ledger`), ended.id);
  process.stdout.write(`\n${summaryText(summarize(records))}`);
  process.stdout.write(`\nreport: agent-send report ${ended.id}\n`);
}
