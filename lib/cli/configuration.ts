import fs from 'node:fs';
import { GodwitError } from '../errors.ts';
import { didYouMean } from '../nearest.ts';
import type { Input, Option } from './cli.ts';

/** A configuration has a few hundred bytes; this keeps a wrong path from being read for ever. */
const MAX_BYTES = 64 << 10;

type Options = Readonly<Record<string, Option>>;

/** As in the command line: one value, all of a repeatable option, or true for a flag. */
type Value = string | readonly string[] | boolean;

/** What a JSON file says about the options of a command. */
export interface Configuration {
  readonly file: string;
  readonly values: ReadonlyMap<string, Value>;
}

/**
 * Reads `{"peer-timeout": "5s", "allow-peer": ["hosta"], "insecure": true}`: options by their names
 * without dashes. The values themselves are left to the command, as those of the command line are.
 * @throws GodwitError bad-option, naming the file and the key
 */
export function readConfiguration(file: string, options: Options): Configuration {
  const refuse = (why: string, cause?: unknown) =>
    new GodwitError('bad-option', `${file}: ${why}`, { cause });
  const parsed = parse(readText(file, refuse), refuse);
  const values = new Map<string, Value>();
  for (const [key, value] of Object.entries(parsed)) {
    const name = JSON.stringify(key.slice(0, 80));
    const option = Object.hasOwn(options, key) ? options[key] : undefined;
    if (option === undefined)
      throw refuse(
        `there is no option ${name}; there are ${Object.keys(options).join(', ')}${didYouMean(key, Object.keys(options))}`,
      );
    values.set(key, textOf(value, option) ?? raise(refuse(`${name} takes ${kindOf(option)}`)));
  }
  return { file, values };
}

/** The command line on top of the file: what is on both is taken from the command line. */
export function configure(input: Input, { values }: Configuration): Input {
  const listOf = (name: string) => (values.get(name) ?? []) as readonly string[];
  return {
    ...input,
    option: (name) => input.option(name) ?? (values.get(name) as string | undefined),
    options: (name) => (given(input, name) ? input.options(name) : listOf(name)),
    flag: (name) => input.flag(name) || values.get(name) === true,
  };
}

/** What the first says about those options, and the second about all others. */
export function mixed(
  anew: Configuration,
  before: Configuration,
  options: readonly string[],
): Configuration {
  const values = new Map(before.values);
  for (const name of options) {
    const value = anew.values.get(name);
    if (value === undefined) values.delete(name);
    else values.set(name, value);
  }
  return { file: anew.file, values };
}

/** An error of a value, with the file in front if that is where the value stands. */
export function blameFile(thrown: unknown, input: Input, { file, values }: Configuration): unknown {
  if (!(thrown instanceof GodwitError) || thrown.code !== 'bad-option') return thrown;
  const name = /--([\w-]+)/.exec(thrown.message)?.[1] ?? '';
  if (!values.has(name) || given(input, name)) return thrown;
  return new GodwitError('bad-option', `${file}: ${thrown.message}`, { cause: thrown });
}

/** Whether it is on the command line. */
export function given(input: Input, name: string): boolean {
  return input.option(name) !== undefined || input.flag(name) || input.options(name).length > 0;
}

type Refuse = (why: string, cause?: unknown) => GodwitError;

function readText(file: string, refuse: Refuse): string {
  try {
    const { mode, size } = fs.statSync(file);
    if (size > MAX_BYTES || !fs.statSync(file).isFile())
      throw refuse(`a configuration is a file of at most ${MAX_BYTES} bytes`);
    if (mode & 0o022)
      throw refuse('others may write to it, so it cannot be trusted; use "chmod go-w"');
    return fs.readFileSync(file, 'utf8');
  } catch (cause) {
    if (cause instanceof GodwitError) throw cause;
    throw refuse(`cannot be read: ${(cause as NodeJS.ErrnoException).code}`, cause);
  }
}

function parse(text: string, refuse: Refuse): object {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw refuse(`is not JSON: ${(cause as Error).message}`, cause);
  }
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed;
  throw refuse('is not a JSON object');
}

/** Undefined when it is of the wrong type. Counts may be numbers: their text is the same. */
function textOf(value: unknown, option: Option): Value | undefined {
  if (option.value === undefined) return typeof value === 'boolean' ? value : undefined;
  if (option.repeatable) return isTexts(value) ? value : undefined;
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function kindOf({ value, repeatable }: Option): string {
  if (value === undefined) return 'true or false';
  return repeatable ? `a list of strings, each ${value}` : `${value} as one string or number`;
}

function raise(error: GodwitError): never {
  throw error;
}
