import { setTimeout as sleep } from 'node:timers/promises';
import { BANDWIDTH_RANGE, PARALLEL_RANGE } from '../../lib/api/request.ts';
import { type Command, type Input, type Option, print } from '../../lib/cli/cli.ts';
import type { ControlClient } from '../../lib/cli/client.ts';
import {
  EvacuationLog,
  evacuationLines,
  evacuationText,
  planText,
} from '../../lib/cli/evacuation-text.ts';
import { EXIT_OF } from '../../lib/cli/outcome.ts';
import { inColour } from '../../lib/cli/progress.ts';
import { localUser } from '../../lib/cli/user.ts';
import { GodwitError } from '../../lib/errors.ts';
import {
  type EvacuationPlan,
  type EvacuationRequest,
  type EvacuationView,
  ORDERS,
  type Order,
} from '../../lib/evacuation/view.ts';
import { EXIT } from '../../lib/exit.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { LIMIT_DURATIONS } from '../../lib/precopy/limits.ts';
import { formatRate, parseCount, parseDuration } from '../../lib/units.ts';
import { formatAddress } from '../../lib/wire/address.ts';
import { addressOf, manage, requestOptions, termsOf } from './migrate.ts';

/** Between two looks, ms. */
const LOOK_MS = 500;
const DEFAULT_PARALLEL = '2';

/** Of an evacuation that begins. */
const beginOptions: Readonly<Record<string, Option>> = {
  guests: { value: 'GUEST,…', help: 'only these', otherwise: 'all that can be moved' },
  parallel: {
    value: 'N',
    help: 'guests that are moved at once',
    range: `${PARALLEL_RANGE.min} to ${PARALLEL_RANGE.max}`,
    otherwise: DEFAULT_PARALLEL,
  },
  order: { value: ORDERS.join('|'), help: 'which guests go first', otherwise: ORDERS[0] },
  'retry-up-to': {
    value: 'DURATION',
    help: 'try a guest that was given up again with the suspension\nlimit that would have been enough, up to this one',
    otherwise: 'no',
  },
  'dry-run': { help: 'only ask the destinations; nothing is moved' },
  ...requestOptions,
  bandwidth: {
    value: 'RATE',
    help: 'cap for all guests together; who is suspended comes first',
    range: `from ${formatRate(BANDWIDTH_RANGE.min)} for each guest at once`,
    otherwise: 'none',
  },
  detach: { help: 'return when the evacuation has begun' },
};

/** `evacuate`: begins an evacuation, or takes up the one that there is. */
export const evacuate: Command = {
  name: 'evacuate',
  arguments: ['[HOST[:PORT],…]'],
  summary: 'Moves all guests away; without HOST it shows the evacuation that was begun.',
  options: {
    ...beginOptions,
    status: { help: 'without HOST: show how it stands, and return' },
    cancel: { help: 'without HOST: end it; guests not given away stay' },
    socket: manage.socket,
  },
  async run(input) {
    const client = manage.client(input);
    if (input.arguments.length === 0) return takeUp(input, client);
    if (input.flag('status') || input.flag('cancel'))
      throw new GodwitError('bad-option', '--status and --cancel go without HOST');
    const request = requestOf(input);
    if (input.flag('dry-run')) {
      const planned = await client.request<EvacuationPlan>('POST', '/evacuation/plan', request);
      print(input, planned, planText);
      const all = planned.leaving.every(({ destination }) => destination !== undefined);
      return all ? EXIT.completed : EXIT.failed;
    }
    const begun = await client.request<EvacuationView>('POST', '/evacuation', request);
    if (!input.flag('detach')) return follow(input, client, begun);
    print(input, begun, ({ id }) => `${id}\n`);
    return EXIT.completed;
  },
};

/** The evacuation that there is. @throws GodwitError bad-option when there is none */
export async function evacuationOf(client: ControlClient): Promise<EvacuationView> {
  const { evacuation } = await client.request<{ evacuation?: EvacuationView }>(
    'GET',
    '/evacuation',
  );
  if (evacuation !== undefined) return evacuation;
  throw new GodwitError('bad-option', 'there is no evacuation; name the hosts to begin one');
}

async function takeUp(input: Input, client: ControlClient): Promise<number> {
  const given = Object.keys(beginOptions).filter(
    (name) => input.flag(name) || input.option(name) !== undefined,
  );
  if (given.length > 0)
    throw new GodwitError('bad-option', `--${given[0]} begins an evacuation: name its HOST`);
  const view = input.flag('cancel')
    ? await client.request<EvacuationView>('POST', '/evacuation/cancel')
    : await evacuationOf(client);
  if (!input.flag('status')) return follow(input, client, view);
  print(input, view, evacuationText);
  return EXIT.completed;
}

/** @throws GodwitError bad-option before anything is asked */
function requestOf(input: Input): EvacuationRequest {
  const { option } = input;
  const { bandwidth, ...move } = termsOf(input);
  const guests = option('guests');
  const retry = option('retry-up-to');
  return {
    destinations: listOf(input.arguments[0]!, 'HOST').map((target) => {
      const { host, port } = addressOf(target);
      return formatAddress(host, port);
    }),
    parallel: parseCount(option('parallel') ?? DEFAULT_PARALLEL, '--parallel', PARALLEL_RANGE),
    order: orderOf(option('order') ?? ORDERS[0]),
    move,
    by: localUser(),
    ...(guests === undefined ? {} : { guests: listOf(guests, '--guests') }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(retry === undefined
      ? {}
      : { retryUpToMs: parseDuration(retry, '--retry-up-to', LIMIT_DURATIONS.maxSuspendMs) }),
  };
}

function listOf(text: string, what: string): readonly string[] {
  const all = text.split(',');
  if (!all.includes('') && new Set(all).size === all.length) return all;
  throw new GodwitError('bad-option', `${what} is a list with commas, each once, not "${text}"`);
}

function orderOf(name: string): Order {
  const found = ORDERS.find((order) => order === name);
  if (found !== undefined) return found;
  throw new GodwitError('bad-option', `--order is ${ORDERS.join(', ')}, not "${name}"`);
}

/** Shows an evacuation until it ends; Ctrl-C only stops looking. Exits by the worst outcome. */
async function follow(
  input: Input,
  client: ControlClient,
  { id }: EvacuationView,
): Promise<number> {
  process.once('SIGINT', () => {
    process.stderr.write(
      '\nthe evacuation goes on; see it again with: agent-send evacuate (end it: --cancel)\n',
    );
    process.exit(EXIT.failed);
  });
  const show = input.json ? jsonLines() : process.stdout.isTTY ? screen(process.stdout) : lines();
  for (;;) {
    const [view, { migrations }] = await Promise.all([
      evacuationOf(client),
      client.request<{ migrations: MigrationView[] }>('GET', '/migrations'),
    ]);
    if (view.id !== id)
      throw new GodwitError('too-late', `evacuation ${id} is over, and another one has begun`);
    show(view, migrations);
    if (view.outcome !== undefined) {
      if (!input.json) conclude(input, view);
      return EXIT_OF[view.outcome];
    }
    await sleep(LOOK_MS);
  }
}

function conclude(input: Input, view: EvacuationView): void {
  const socket = input.option('socket');
  const where = socket === undefined ? '' : ` --socket ${socket}`;
  process.stdout.write(`\n${evacuationText(view)}report: agent-send report --evacuation${where}\n`);
}

type Show = (view: EvacuationView, migrations: readonly MigrationView[]) => void;

function jsonLines(): Show {
  let last = '';
  return (view) => {
    const line = `${JSON.stringify(view)}\n`;
    if (line !== last) process.stdout.write(line);
    last = line;
  };
}

function lines(): Show {
  const log = new EvacuationLog();
  return (view, migrations) => {
    for (const line of log.lines(view, migrations)) process.stdout.write(`${line}\n`);
  };
}

/** Lines of a terminal that are written over; what does not fit its height is told. */
function screen(out: NodeJS.WriteStream & { readonly hasColors?: () => boolean }): Show {
  let height = 0;
  return (view, migrations) => {
    const width = (out.columns || 80) - 1;
    const rows = Math.max(2, (out.rows || 24) - 1);
    const paint = out.hasColors?.() ? inColour : undefined;
    const all = evacuationLines(view, migrations, width, Date.now(), paint);
    const shown = all.length <= rows ? all : [...all.slice(0, rows - 1), '…'];
    const up = height > 0 ? `\x1b[${height}A` : '';
    out.write(`${up}\r\x1b[J${shown.join('\n')}\n`);
    height = shown.length;
  };
}
