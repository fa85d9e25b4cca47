import type { Command, Program } from '../cli/cli.ts';
import { functionName, type Kind, kindOf, namesCommand } from './completion.ts';

/** Completion of a program for bash(1), which needs nothing but bash. */
export function bashCompletion(program: Program): string {
  const name = functionName(program);
  const { commands } = program;
  return `# Completion of ${program.name} for bash.
# What may stand after an option: a kind, "=" and words, or nothing after a flag.
${name}_value() {
  case $1 in
${arms(commands.flatMap(valuesOf))}
    *) kind= ;;
  esac
}

${name}() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]}
  local kind at i
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    kind="=${[...commands.map((command) => command.name), '--help', '--version'].join(' ')}"
  else
    # "--option=value" comes in three pieces.
    if [[ $word == "=" ]]; then
      word=
    elif [[ $before == "=" ]]; then
      before=\${COMP_WORDS[COMP_CWORD - 2]}
    fi
    ${name}_value "$command $before"
    if [[ -z $kind && $word == -* ]]; then
      case $command in
${arms(
  commands.map((command) => [command.name, `=${optionsOf(command).join(' ')}`]),
  8,
)}
      esac
    elif [[ -z $kind ]]; then
      for ((at = 0, i = 2; i < COMP_CWORD; i++)); do
        ${name}_value "$command \${COMP_WORDS[i]}"
        if [[ -n $kind ]]; then
          [[ \${COMP_WORDS[i + 1]} == "=" ]] && ((i++))
          ((i++))
        elif [[ \${COMP_WORDS[i]} != -* ]]; then
          ((at++))
        fi
      done
      case "$command $at" in
${arms(commands.flatMap(argumentsOf), 8)}
        *) kind= ;;
      esac
    fi
  fi
  case $kind in
    =*) mapfile -t COMPREPLY < <(compgen -W "\${kind#=}" -- "$word") ;;
    file | directory)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -A "$kind" -- "$word")
      ;;
    host) mapfile -t COMPREPLY < <(compgen -A hostname -- "$word") ;;
    guest) mapfile -t COMPREPLY < <(compgen -W "$(${namesCommand(program, 'guest')})" -- "$word") ;;
    migration) mapfile -t COMPREPLY < <(compgen -W "$(${namesCommand(program, 'migration')})" -- "$word") ;;
  esac
}

complete -F ${name} ${program.name}
`;
}

type Arm = readonly [pattern: string, kind: string];

function valuesOf({ name, options }: Command): Arm[] {
  return Object.entries(options).flatMap(([option, { value }]) =>
    value === undefined ? [] : [[`${name} --${option}`, spelled(kindOf(value))] as const],
  );
}

/** The last of them may be repeated. */
function argumentsOf({ name, arguments: wanted }: Command): Arm[] {
  return wanted.map((argument, at) => {
    const place = argument.endsWith('…') ? '*' : String(at);
    return [`${name} ${place}`, spelled(kindOf(argument))];
  });
}

function optionsOf({ options }: Command): string[] {
  return [...Object.keys(options), 'json', 'help'].map((option) => `--${option}`);
}

function spelled(kind: Kind): string {
  return typeof kind === 'string' ? kind : `=${kind.words.join(' ')}`;
}

/** Of a case, one for each kind. */
function arms(all: readonly Arm[], indent = 4): string {
  const patterns = new Map<string, string[]>();
  for (const [pattern, kind] of all)
    patterns.set(kind, [...(patterns.get(kind) ?? []), patternOf(pattern)]);
  return [...patterns]
    .map(
      ([kind, same]) =>
        `${' '.repeat(indent)}${same.join(` | \\\n${' '.repeat(indent + 2)}`)}) kind="${kind}" ;;`,
    )
    .join('\n');
}

function patternOf(words: string): string {
  return words.endsWith('*') ? `"${words.slice(0, -1)}"*` : `"${words}"`;
}
