import { type ParseArgsConfig, parseArgs } from 'node:util';
import { asGodwitError, GodwitError } from '../errors.ts';
import { EXIT } from '../exit.ts';
import { journalPriority } from '../log.ts';
import { didYouMean } from '../nearest.ts';
import { HopelessStart } from './start-error.ts';

/** An option of a command; without `value` it is a flag. */
export interface Option {
  /** What its value is called in the help: DURATION, RATE, …; `checkUsable` knows DIR, FILE, PATH. */
  readonly value?: string;
  readonly help: string;
  /** Allowed values, as the help shows them. */
  readonly range?: string;
  /** What holds when it is not given, as the help shows it. */
  readonly otherwise?: string;
  /** It may be given several times; `Input.options` has all of its values. */
  readonly repeatable?: true;
}

export interface Command {
  readonly name: string;
  /** Positional arguments as the help shows them; after one that ends with `…` any more may follow. */
  readonly arguments: readonly string[];
  readonly summary: string;
  readonly options: Readonly<Record<string, Option>>;
  /** Options that other tools have for the same, and what is to be said of each to who types it here. */
  readonly foreign?: Readonly<Record<string, string>>;
  /** What follows the first argument is somebody else's command line, whatever stands in it. */
  readonly takesRest?: true;
  run(input: Input): Promise<number>;
}

/** A command line that has been taken apart; `--json` and `--help` belong to every command. */
export interface Input {
  readonly arguments: readonly string[];
  /** Value of an option, undefined when it was not given. */
  readonly option: (name: string) => string | undefined;
  /** Values of a repeatable option, none when it was not given. */
  readonly options: (name: string) => readonly string[];
  readonly flag: (name: string) => boolean;
  readonly json: boolean;
}

export interface Program {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly Command[];
}

/** Options of every command. */
export const COMMON: Readonly<Record<string, Option>> = {
  json: { help: 'answer in JSON' },
  help: { help: 'show this help (also -h)' },
};

/** What exit codes mean. */
export const EXIT_CODES: readonly (readonly [string, string])[] = [
  ['0', 'completed'],
  ['1', 'failed; the guest runs where it was'],
  ['2', 'the command line, the configuration or what it names is wrong; nothing was started'],
  ['3', 'aborted by the policy or the suspension limit; the guest runs at its source'],
  ['4', 'cancelled; the guest runs at its source'],
  ['5', 'outcome unknown: look at both hosts (needs resolve)'],
  ['6', 'the daemon does not answer'],
  ['7', 'a fault of the program itself; what the journal has open, the next start finishes'],
  ['8', 'check: nobody can tell how a move would end (0, 1, 3: as it is expected to)'],
];

/** Runs the command that the arguments name; prints errors; returns the exit code. */
export async function runProgram(program: Program, argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json');
  // "| head" closes the pipe when it has seen enough.
  process.stdout.on('error', () => process.exit(EXIT.completed));
  // A daemon whose log has no reader, or no room, goes on without it.
  process.stderr.on('error', () => {});
  try {
    const [first, ...rest] = argv;
    const name = first === '--version' ? 'version' : first;
    if (name === undefined || ['--help', '-h', 'help'].includes(name)) {
      process.stdout.write(programHelp(program));
      return name === undefined ? EXIT.usage : EXIT.completed;
    }
    const command = program.commands.find((c) => c.name === name);
    if (!command)
      throw new GodwitError(
        'bad-option',
        `there is no command "${name}"${
          didYouMean(
            name,
            program.commands.map((c) => c.name),
          ) || `; "${program.name} --help" lists them`
        }`,
      );
    const input = takeApart(program, command, rest);
    if (input.flag('help')) {
      process.stdout.write(commandHelp(program, command));
      return EXIT.completed;
    }
    return await command.run(input);
  } catch (thrown) {
    const error = asGodwitError(thrown);
    const { code, message } = error;
    const text = json
      ? JSON.stringify({ error: { code, message } })
      : `${program.name}: ${message} (${code})`;
    process.stderr.write(`${journalPriority('error')}${text.replace(/\p{Cc}/gu, ' ')}\n`);
    return error instanceof HopelessStart ? EXIT.usage : exitCodeOf(code);
  }
}

function exitCodeOf(code: string): number {
  if (code === 'bad-option') return EXIT.usage;
  if (code === 'daemon-unreachable') return EXIT['no-daemon'];
  if (code === 'internal') return EXIT.internal;
  return EXIT.failed;
}

/** Prints one value: as JSON, or as the lines that `words` makes of it. */
export function print<T>(input: Input, value: T, words: (value: T) => string): void {
  process.stdout.write(input.json ? `${JSON.stringify(value)}\n` : words(value));
}

function takeApart(program: Program, command: Command, argv: readonly string[]): Input {
  const options = { ...command.options, ...COMMON };
  const config = Object.fromEntries(
    Object.entries(options).map(([name, { value, repeatable = false }]) => [
      name,
      {
        type: value === undefined ? ('boolean' as const) : ('string' as const),
        multiple: repeatable,
        ...(name === 'help' && { short: 'h' }),
      },
    ]),
  );
  let parsed: ReturnType<typeof parseArgs>;
  try {
    const args = command.takesRest ? withRest(argv, config) : [...argv];
    parsed = parseArgs({ args, options: config, allowPositionals: true });
  } catch (cause) {
    // "Unknown option '--x'. To specify …": the first sentence is what a person needs.
    const [why = ''] = (cause as Error).message.split(/\.\s/);
    const named = /'--([\w-]+)/.exec(why)?.[1] ?? '';
    const { foreign = {} } = command;
    if (Object.hasOwn(foreign, named))
      throw new GodwitError('bad-option', `--${named}: ${foreign[named]}`, { cause });
    const option = Object.hasOwn(options, named) ? options[named] : undefined;
    const near =
      option === undefined
        ? didYouMean(
            `--${named}`,
            Object.keys(options).map((o) => `--${o}`),
          )
        : '';
    const takes = option?.value ? ` (it takes ${option.value}${inRange(option)})` : '';
    const help = `see "${program.name} ${command.name} --help"`;
    throw new GodwitError('bad-option', `${why}${takes}${near}; ${help}`, { cause });
  }
  const { values, positionals } = parsed;
  const required = command.arguments.filter((name) => !name.startsWith('['));
  const most = command.arguments.at(-1)?.endsWith('…') ? Infinity : command.arguments.length;
  const fits = positionals.length >= required.length && positionals.length <= most;
  if (!fits && values.help !== true)
    throw new GodwitError(
      'bad-option',
      `${command.name} takes ${command.arguments.join(' ') || 'no arguments'}, not ${positionals.length} argument(s)`,
    );
  return {
    arguments: positionals,
    option: (name) => values[name] as string | undefined,
    options: (name) => (values[name] ?? []) as string[],
    flag: (name) => values[name] === true,
    json: values.json === true,
  };
}

/** The same with `--` where the first argument stands, so that what follows it is left alone. */
function withRest(
  argv: readonly string[],
  options: NonNullable<ParseArgsConfig['options']>,
): string[] {
  const { tokens } = parseArgs({
    ...{ args: [...argv], options, strict: false, tokens: true, allowPositionals: true },
  });
  const first = tokens.find(({ kind }) => kind === 'positional');
  return first === undefined
    ? [...argv]
    : [...argv.slice(0, first.index), '--', ...argv.slice(first.index)];
}

function programHelp({ name, summary, commands }: Program): string {
  const usage = commands.map((c) => [[c.name, ...c.arguments].join(' '), c.summary] as const);
  return `${summary}\n\nUsage: ${name} COMMAND [options]\n\n${columns(usage)}\n"${name} COMMAND --help" explains the options of a command.\n\n${exitCodes()}`;
}

function commandHelp(program: Program, command: Command): string {
  const rows = Object.entries({ ...command.options, ...COMMON }).map(
    ([name, option]) =>
      [`--${name}${option.value ? ` ${option.value}` : ''}`, explain(option)] as const,
  );
  const line = [program.name, command.name, ...command.arguments, '[options]'].join(' ');
  return `${command.summary}\n\nUsage: ${line}\n\n${columns(rows)}\n${exitCodes()}`;
}

function exitCodes(): string {
  return `Exit codes:\n${columns(EXIT_CODES)}`;
}

function inRange({ range }: Option): string {
  return range === undefined ? '' : `, ${range}`;
}

/** An option in words: help, then its range and its default. */
export function explain({ help, range, otherwise, repeatable }: Option): string {
  const often = repeatable ? 'may be repeated' : undefined;
  const facts = [range, often, otherwise && `default ${otherwise}`].filter((f) => f !== undefined);
  return facts.length === 0 ? help : `${help}\n(${facts.join('; ')})`;
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows
    .map(
      ([left, right]) =>
        `  ${left.padEnd(width)}${right.replace(/\n/g, `\n  ${' '.repeat(width)}`)}\n`,
    )
    .join('');
}
