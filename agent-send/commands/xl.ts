import { setTimeout as sleep } from 'node:timers/promises';
import type { Command, Input, Option } from '../../lib/cli/cli.ts';
import type { ControlClient } from '../../lib/cli/client.ts';
import { EXIT_OF } from '../../lib/cli/outcome.ts';
import { pathOf } from '../../lib/cli/path-option.ts';
import { LineFilter, progressLine } from '../../lib/cli/progress.ts';
import { localUser } from '../../lib/cli/user.ts';
import { defaultPaths } from '../../lib/daemon/paths.ts';
import { asGodwitError, GodwitError } from '../../lib/errors.ts';
import { EXIT } from '../../lib/exit.ts';
import { XlTransport } from '../../lib/guest/xen/transport.ts';
import { controlSocketOf } from '../../lib/guest/xen/transport-protocol.ts';
import { isOver } from '../../lib/migration/standing.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { addressOf, manage, requestOptions, termsOf } from './migrate.ts';

/** Definitions are libvirt's. */
const NOT_WITH_XL = ['persistent', 'undefine-source', 'copy-storage-all', 'copy-storage-inc'];

const options: Readonly<Record<string, Option>> = Object.fromEntries(
  Object.entries(requestOptions).filter(([name]) => !NOT_WITH_XL.includes(name)),
);

/** What the daemon has to say after the last view, ms: it ends this process by then. */
const LAST_WORD_MS = 30_000;

/** `agent-send xl [options] HOST xl migrate-receive`: what `xl migrate -s` runs instead of ssh. */
export const xl: Command = {
  name: 'xl',
  arguments: ['HOST[:PORT]', 'xl', 'migrate-receive', '[FLAG]…'],
  summary: "What `xl migrate -s 'agent-send xl' DOMAIN HOST` runs: moves a domain of Xen.",
  options: {
    ...options,
    'guest-dir': {
      value: 'DIR',
      help: 'control sockets of the guests, as the daemon has it',
      otherwise: defaultPaths('agent-send').guestDir,
    },
    socket: manage.socket,
  },
  takesRest: true,
  async run(input) {
    const [target = '', ...command] = input.arguments;
    requireCommand(command);
    const { host, port } = addressOf(target);
    const terms = termsOf(input);
    if (terms.limits.hold !== undefined) requireHelper();
    const account = new Account();
    const exit = (code: number) => {
      if (code !== 0) account.close();
      process.exit(code);
    };
    const transport = new XlTransport({ input: process.stdin, output: process.stdout, exit });
    try {
      const { name: guest } = await transport.begin();
      await transport.serve(controlSocketOf(guestDirOf(input), guest));
      for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const)
        process.on(signal, () => {
          if (transport.said === 'banner') transport.leave(EXIT.cancelled);
        });
      const client = manage.client(input);
      const request = { guest, host, port, ...terms, by: localUser() };
      const { id } = await client.request<MigrationView>('POST', '/migrations', request);
      account.opens(id);
      const ended = await follow(client, id, account);
      // Whatever is to be said to xl is said by the daemon, also by its next run.
      await sleep(LAST_WORD_MS);
      if (transport.said === 'banner') transport.leave(EXIT_OF[ended?.outcome ?? 'failed']);
      return await new Promise<never>(() => {});
    } catch (thrown) {
      const { code, message } = asGodwitError(thrown);
      process.stderr.write(`agent-send: ${message} (${code})\n`);
      transport.leave(EXIT.failed); // xl runs the guest on
      throw thrown;
    }
  },
};

/** Why a move comes to nothing, said once, and where to look when xl ends this process before that is known. */
class Account {
  #id: string | undefined;
  #isSettled = false;

  opens(id: string): void {
    this.#id = id;
  }

  settle({ code, message }: MigrationView): void {
    if (code === undefined || this.#isSettled) return;
    this.#isSettled = true;
    process.stderr.write(`agent-send: ${message} (${code})\n`);
  }

  close(): void {
    if (this.#id === undefined || this.#isSettled) return;
    process.stderr.write(
      `agent-send: xl runs the guest on; why, \`agent-send show ${this.#id}\` tells\n`,
    );
  }
}

/** Shows how it goes on stderr, which is the user's; undefined when the daemon went away. */
async function follow(
  client: ControlClient,
  id: string,
  account: Account,
): Promise<MigrationView | undefined> {
  const filter = new LineFilter();
  try {
    for await (const view of client.events(id)) {
      if (filter.wants(view)) process.stderr.write(`${progressLine(view)}\n`);
      account.settle(view);
      if (isOver(view)) return view;
    }
  } catch (error) {
    process.stderr.write(`agent-send: ${(error as Error).message}\n`);
  }
  return undefined;
}

/** Without it xl suspends the guest when it sees fit. @throws GodwitError bad-option */
function requireHelper(): void {
  if (process.env.LIBXL_SAVE_HELPER?.endsWith('agent-send-helper')) return;
  throw new GodwitError(
    'bad-option',
    'xl can only be kept from suspending a guest with LIBXL_SAVE_HELPER=agent-send-helper in its environment',
  );
}

function guestDirOf(input: Input): string {
  return pathOf(input, 'guest-dir', defaultPaths('agent-send').guestDir);
}

/** As xl gives it: the receiver's command is run by agent-recv, and so are no flags that it has none for. */
function requireCommand([program, ...rest]: readonly string[]): void {
  const flags = rest.filter((word) => !/^-v+$/.test(word));
  const [command, ...given] = flags;
  if (program !== 'xl' || command !== 'migrate-receive')
    throw new GodwitError(
      'bad-option',
      'agent-send xl is run by xl: xl migrate -s "agent-send xl"',
    );
  for (const flag of given) {
    if (flag === '-d') {
      process.stderr.write(
        'agent-send: with --debug all memory is sent twice: no limit can hold\n',
      );
      continue;
    }
    const why = /^(?:-r|--remus|--colo|-p|-e)/.test(flag) ? REFUSED : 'is not known';
    throw new GodwitError('bad-option', `xl migrate-receive ${flag} ${why}`);
  }
}

const REFUSED =
  'cannot be had with agent-send: neither Remus, COLO, a domain that stays paused, nor one that nobody watches';
