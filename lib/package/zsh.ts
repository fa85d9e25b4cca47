import { COMMON, type Command, type Option, type Program } from '../cli/cli.ts';
import { functionName, gist, type Kind, kindOf, namesCommand, quoted } from './completion.ts';

/** Completion of a program for zsh(1), by its _arguments. */
export function zshCompletion(program: Program): string {
  const name = functionName(program);
  const commands = program.commands.map(
    ({ name, summary }) => `    ${quoted(`${name}:${summary}`)}\n`,
  );
  return `#compdef ${program.name}
${(['guest', 'migration'] as const)
  .map(
    (kind) => `
${name}_${kind}() {
  local -a names=(\${(f)"$(${namesCommand(program, kind)})"})
  compadd -a names
}
`,
  )
  .join('')}
${name}() {
  local curcontext=$curcontext state
  local -a commands=(
${commands.join('')}  )
  _arguments -C '(- : *)'{-h,--help}'[show the help]' '(- : *)--version[show the version]' \\
    '1: :->command' '*:: :->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
${program.commands.map((command) => commandArm(name, command)).join('')}      esac
      ;;
  esac
}

${name} "$@"
`;
}

function commandArm(name: string, { name: command, arguments: wanted, options }: Command): string {
  const specs = [
    ...Object.entries({ ...options, ...COMMON }).map((one) => optionSpec(name, ...one)),
    ...wanted.map((argument, at) => argumentSpec(name, argument, at)),
  ];
  return `        ${command})\n          _arguments ${specs.join(' \\\n            ')}\n          ;;\n`;
}

function optionSpec(name: string, option: string, what: Option): string {
  const often = what.repeatable ? '*' : '';
  const about = `[${gist(what).replace(/[[\]\\]/g, '\\$&')}]`;
  const { value } = what;
  if (value === undefined) return quoted(`${often}--${option}${about}`);
  return quoted(`${often}--${option}=${about}:${message(value)}:${actionOf(name, kindOf(value))}`);
}

function argumentSpec(name: string, argument: string, at: number): string {
  const place = argument.endsWith('…') ? '*' : `${at + 1}`;
  const optional = argument.startsWith('[') ? ':' : '';
  return quoted(`${place}:${optional}${message(argument)}:${actionOf(name, kindOf(argument))}`);
}

function message(text: string): string {
  return text.replaceAll(':', '\\:');
}

function actionOf(name: string, kind: Kind): string {
  if (typeof kind !== 'string') return `(${kind.words.join(' ')})`;
  const ACTIONS = {
    file: '_files',
    directory: '_files -/',
    host: '_hosts',
    guest: `${name}_guest`,
    migration: `${name}_migration`,
    unknown: ' ',
  };
  return ACTIONS[kind];
}
