import { COMMON, type Command, type Option, type Program } from '../cli/cli.ts';
import { gist, type Kind, kindOf, namesCommand } from './completion.ts';

/** Completion of a program for fish(1). */
export function fishCompletion(program: Program): string {
  const { name, commands } = program;
  return [
    `# Completion of ${name} for fish.\n`,
    `complete -c ${name} -f\n`,
    `complete -c ${name} -n __fish_use_subcommand -l version -d 'show the version'\n`,
    `complete -c ${name} -n __fish_use_subcommand -l help -s h -d 'show the help'\n`,
    ...commands.map((command) => commandText(program, command)),
  ].join('');
}

function commandText(
  program: Program,
  { name, arguments: wanted, summary, options }: Command,
): string {
  const within = `complete -c ${program.name} -n '__fish_seen_subcommand_from ${name}`;
  return [
    `complete -c ${program.name} -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}\n`,
    ...Object.entries({ ...options, ...COMMON }).map(
      ([option, what]) =>
        `${within}' -l ${option}${valueText(program, what)} -d ${quoted(gist(what))}\n`,
    ),
    ...wanted.map((argument, at) => {
      // The program and its command are counted, too.
      const isAt = `test (__fish_number_of_cmd_args_wo_opts) -${argument.endsWith('…') ? 'ge' : 'eq'} ${at + 2}`;
      return `${within}; and ${isAt}'${offer(program, kindOf(argument))} -d ${quoted(argument)}\n`;
    }),
  ].join('');
}

function valueText(program: Program, { value }: Option): string {
  return value === undefined ? '' : ` -r${offer(program, kindOf(value))}`;
}

function offer(program: Program, kind: Kind): string {
  if (typeof kind !== 'string') return ` -f -a ${quoted(kind.words.join(' '))}`;
  if (kind === 'file') return ' -F';
  if (kind === 'directory') return " -f -a '(__fish_complete_directories)'";
  if (kind === 'host') return " -f -a '(__fish_print_hostnames)'";
  if (kind === 'unknown') return ' -f';
  return ` -f -a ${quoted(`(${namesCommand(program, kind)})`)}`;
}

/** Within single quotes fish knows two escapes. */
function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
