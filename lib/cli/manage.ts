import { socketToAsk } from '../daemon/paths.ts';
import { GodwitError } from '../errors.ts';
import { EXIT } from '../exit.ts';
import { isOver } from '../migration/standing.ts';
import type { MigrationView } from '../migration/view.ts';
import type { Dilemma } from '../ownership/decision.ts';
import { type Command, type Input, type Option, print } from './cli.ts';
import { ControlClient } from './client.ts';
import { dilemmaText, listText, showText } from './listing.ts';
import { EXIT_OF } from './outcome.ts';
import { localUser } from './user.ts';
import { showJson, showLines, showScreen, watchAll } from './watch.ts';

/** The commands that look at and end migrations, alike for both agents. */
export class Manage {
  /** The option that every client command has. */
  readonly socket: Option;
  readonly #agent: 'agent-send' | 'agent-recv';
  readonly #path: string;

  constructor(agent: 'agent-send' | 'agent-recv') {
    this.#agent = agent;
    this.#path = socketToAsk(agent);
    this.socket = { value: 'PATH', help: 'control socket of the daemon', otherwise: this.#path };
  }

  client(input: Input): ControlClient {
    return new ControlClient(input.option('socket') ?? this.#path, this.#agent);
  }

  get list(): Command {
    return {
      name: 'list',
      arguments: [],
      summary: 'Lists the migrations of the daemon.',
      options: { socket: this.socket },
      run: async (input) => {
        const client = this.client(input);
        const answer = await client.request<{ migrations: MigrationView[] }>('GET', '/migrations');
        print(input, answer, ({ migrations }) => listText(migrations));
        return EXIT.completed;
      },
    };
  }

  get show(): Command {
    return this.action('show', 'Shows one migration.', 'GET', '');
  }

  get watch(): Command {
    return {
      name: 'watch',
      arguments: [],
      summary: 'Shows all migrations of the daemon as they go, until Ctrl-C.',
      options: { socket: this.socket },
      run: async (input) => {
        const write = (line: string) => process.stdout.write(line);
        const lines = input.json ? showJson(write) : showLines(write);
        const screen = process.stdout.isTTY && !input.json;
        return watchAll(this.client(input), screen ? showScreen(process.stdout) : lines);
      },
    };
  }

  get wait(): Command {
    return {
      name: 'wait',
      arguments: ['ID'],
      summary: 'Waits for the end of a migration, shows it, and exits as migrate does.',
      options: { socket: this.socket },
      run: async (input) => {
        const id = idOf(input);
        for await (const view of this.client(input).events(id)) {
          if (!isOver(view)) continue;
          print(input, view, showText);
          return EXIT_OF[view.outcome!];
        }
        const text = `the daemon went away before migration ${id} had ended`;
        throw new GodwitError('daemon-unreachable', text);
      },
    };
  }

  get cancel(): Command {
    const summary = 'Cancels a migration; the guest runs on at its source.';
    return this.action('cancel', summary, 'POST', '/cancel');
  }

  /** Says what is known, or decides. The decision is never the default. */
  get resolve(): Command {
    return {
      name: 'resolve',
      arguments: ['ID'],
      summary:
        'Decides about a guest whose other host is gone for good; without a choice, explains.',
      options: {
        'keep-here': { help: 'this host has the guest from now on' },
        'give-up': { help: 'this host lets go of it' },
        socket: this.socket,
      },
      run: async (input) => {
        const client = this.client(input);
        const url = `/migrations/${idOf(input)}/resolve`;
        const choices = ['keep-here', 'give-up'].filter((name) => input.flag(name));
        if (choices.length > 1)
          throw new GodwitError('bad-option', 'choose one: --keep-here or --give-up');
        const dilemma = await client.request<Dilemma>('GET', url);
        if (choices.length === 0) {
          print(input, dilemma, dilemmaText);
          return EXIT.completed;
        }
        const decision = { choice: choices[0], by: localUser() };
        const view = await client.request<MigrationView>('POST', url, decision);
        print(input, view, showText);
        return EXIT.completed;
      },
    };
  }

  /** A command that does one thing to one migration and shows it. */
  action(
    name: string,
    summary: string,
    method: string,
    path: string,
    options: Readonly<Record<string, Option>> = {},
    body: (input: Input) => unknown = () => undefined,
  ): Command {
    return {
      name,
      arguments: ['ID'],
      summary,
      options: { ...options, socket: this.socket },
      run: async (input) => {
        const url = `/migrations/${idOf(input)}${path}`;
        const view = await this.client(input).request<MigrationView>(method, url, body(input));
        print(input, view, showText);
        return EXIT.completed;
      },
    };
  }
}

/** The command's ID, safe in a URL. @throws GodwitError bad-option */
export function idOf(input: Input): string {
  const [id = ''] = input.arguments;
  if (/^[0-9a-f]{1,16}$/.test(id)) return id;
  throw new GodwitError(
    'bad-option',
    `ID is up to 16 hexadecimal digits as list shows them, not "${id}"`,
  );
}
