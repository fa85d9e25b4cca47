import type { Option, Program } from '../cli/cli.ts';

/** What a word of a command line can be, for a shell that completes it. */
export type Kind =
  | { readonly words: readonly string[] }
  | 'file'
  | 'directory'
  | 'host'
  | 'guest'
  | 'migration'
  | 'unknown';

const KINDS: readonly (readonly [RegExp, Kind])[] = [
  [/^DIR$/, 'directory'],
  [/^(FILE|PATH)/, 'file'],
  [/^HOST\b/, 'host'],
  [/^GUEST\b/, 'guest'],
  [/^ID$/, 'migration'],
];

/** Of a value or an argument, by what the help calls it: `[ID]`, `HOST[:PORT]`, `workload|completion`. */
export function kindOf(name: string): Kind {
  if (/^[a-z-]+(\|[a-z-]+)*$/.test(name)) return { words: name.split('|') };
  const bare = name.replace(/^\[(.*)\]$/, '$1').replace(/…$/, '');
  return KINDS.find(([pattern]) => pattern.test(bare))?.[1] ?? 'unknown';
}

/** Shell commands that print what can be named now, a line each; remarks are indented. No daemon: nothing. */
export function namesCommand({ name }: Program, kind: 'guest' | 'migration'): string {
  const list = kind === 'guest' ? 'guests' : 'list';
  return `${name} ${list} 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print $1 }'`;
}

/** A sentence that explains an option, without the line breaks of the help. */
export function gist({ help }: Option): string {
  return help.replaceAll('\n', ' ');
}

/** As a shell function may be called. */
export function functionName({ name }: Program): string {
  return `_${name.replaceAll('-', '_')}`;
}

/** Within the single quotes of a shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
