import type { Input, Option } from './cli.ts';
import { type Configuration, configure, given } from './configuration.ts';
import { checkUsable } from './usable.ts';

type Options = Readonly<Record<string, Option>>;

/** An option as it will be used: `from` the command line, the file, or what holds otherwise. */
interface Used {
  readonly option: string;
  readonly value: string;
  readonly from: string;
}

/** Default paths are looked at too; a FILE has none. @throws GodwitError bad-option */
export function checkPaths(options: Options, configured: Input): void {
  for (const [name, option] of Object.entries(options)) {
    const otherwise = option.value === 'FILE' ? undefined : option.otherwise;
    const text = option.repeatable ? undefined : (configured.option(name) ?? otherwise);
    if (text !== undefined) checkUsable(name, option, text);
  }
}

/** What a command gets to see of its options, and from where. */
export function used(options: Options, input: Input, configuration: Configuration): Used[] {
  const configured = configure(input, configuration);
  return Object.entries(options).map(([name, option]) => {
    const inFile = configuration.values.has(name) ? configuration.file : 'default';
    const from = given(input, name) ? 'command line' : inFile;
    return { option: name, value: valueText(configured, name, option), from };
  });
}

function valueText(configured: Input, name: string, option: Option): string {
  if (option.value === undefined) return configured.flag(name) ? 'yes' : 'no';
  const text = option.repeatable
    ? configured.options(name).join(', ')
    : (configured.option(name) ?? '');
  return text || (option.otherwise ?? 'none');
}

export function usedText(all: readonly Used[]): string {
  const [options, values] = [all.map((one) => one.option), all.map((one) => one.value)];
  const [first, second] = [options, values].map((texts) => Math.max(...texts.map((t) => t.length)));
  return all
    .map(
      ({ option, value, from }) =>
        `${option.padEnd(first!)}  ${value.padEnd(second!)}  (${from})\n`,
    )
    .join('');
}
