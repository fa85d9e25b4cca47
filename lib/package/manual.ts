import fs from 'node:fs';
import path from 'node:path';
import { type Command, EXIT_CODES, explain, type Option, type Program } from '../cli/cli.ts';
import { bold, fromMarkdown, head, italic, item, literal, plain, section } from './roff.ts';

/** What every page says of itself. */
export interface Edition {
  readonly version: string;
  /** As in ISO 8601. */
  readonly date: string;
}

const root = path.join(import.meta.dirname, '../..');

/** All pages, in roff, by the names of their files (`agent-send.1`). */
export function manualOf(programs: readonly Program[], edition: Edition): Map<string, string> {
  const pages = new Map<string, string>();
  for (const program of programs) {
    const pagesAbout = programs.map(({ name }) => name).filter((name) => name !== program.name);
    pages.set(`${program.name}.1`, programPage(program, pagesAbout, edition));
    pages.set(`${program.name}.json.5`, configurationPage(program, edition));
  }
  const names = programs.map(({ name }) => name);
  return pages.set('guests.d.5', definitionsPage(names, edition));
}

function programPage(program: Program, others: readonly string[], edition: Edition): string {
  const { name, summary, commands } = program;
  const codes = EXIT_CODES.map(([code, meaning]) => item(bold(code), plain(meaning)));
  return [
    head(name, 1, edition.version, edition.date),
    section('Name', `${literal(name)} \\- ${plain(asPhrase(summary))}\n`),
    section('Synopsis', `${bold(name)} ${italic('COMMAND')} [${italic('options')}]\n`),
    section('Description', fromMarkdown(part('README.md', '# Godwit'))),
    fromMarkdown(part('docs/reference.md', '# Reference')),
    section('Commands', commandsText(commands)),
    section('Exit status', codes.join('')),
    section('Environment', environmentText(name)),
    section('Files', filesText(program)),
    seeAlso(...others.map((other) => `${other}(1)`), `${name}.json(5)`, 'guests.d(5)'),
  ].join('');
}

/** What an earlier command has explained in the same words is only named. */
function commandsText(commands: readonly Command[]): string {
  const explainedAt = new Map<string, string>();
  return commands
    .map(({ name, arguments: wanted, summary, options }) => {
      const known = new Map<string, string[]>();
      const texts = Object.entries(options).map(([option, what]) => {
        const text = optionText(`--${option}`, what);
        const at = explainedAt.get(text);
        if (at === undefined) {
          explainedAt.set(text, name);
          return text;
        }
        known.set(at, [...(known.get(at) ?? []), bold(`--${option}`)]);
        return '';
      });
      const asOf = [...known].map(
        ([command, names]) => `.PP\nAs for ${bold(command)}: ${names.join(', ')}.\n`,
      );
      const usage = [name, ...wanted].map(literal).join(' ');
      return `.SS ${usage}\n${plain(summary)}\n${texts.join('')}${asOf.join('')}`;
    })
    .join('');
}

function optionText(name: string, option: Option): string {
  const value = option.value === undefined ? '' : ` ${italic(option.value)}`;
  return item(`${bold(name)}${value}`, plain(explain(option).replaceAll('\n', ' ')));
}

function environmentText(name: string): string {
  const variable = name === 'agent-send' ? 'GODWIT_SEND_SOCKET' : 'GODWIT_RECV_SOCKET';
  const compiled = 'where Node keeps what it has compiled; empty: nowhere';
  const guests = `guests' control sockets, unless ${bold('--guest-dir')} names another place`;
  return (
    (name === 'agent-send' ? item(bold('GODWIT_GUEST_DIR'), guests) : '') +
    item(bold(variable), `control socket of the daemon, unless ${bold('--socket')} names one`) +
    item(bold('NODE_COMPILE_CACHE'), plain(compiled))
  );
}

/** Whatever `serve` uses unless it is told of another place. */
function filesText(program: Program): string {
  const { options } = serveOf(program);
  const places = Object.values(options).filter(({ otherwise }) => otherwise?.startsWith('/'));
  const configuration = `options of ${bold('serve')}: ${bold(`${program.name}.json`)}(5)`;
  return [
    item(bold(`/etc/godwit/${program.name}.json`), configuration),
    ...places.map(({ otherwise, help }) =>
      item(bold(otherwise!), plain(help.replaceAll('\n', ' '))),
    ),
  ].join('');
}

/** The file that `serve --config` reads. */
function configurationPage(program: Program, { version, date }: Edition): string {
  const name = `${program.name}.json`;
  const { config: _, 'check-config': __, ...keys } = serveOf(program).options;
  const texts = Object.entries(keys).map(([key, { repeatable, ...option }]) =>
    item(
      `${bold(key)}: ${typeText(option.value, repeatable)}`,
      plain(explain(option).replaceAll('\n', ' ')),
    ),
  );
  const unit = `The unit ${bold(`${program.name}.service`)} reads ${bold(`/etc/godwit/${name}`)}.\n`;
  return [
    head(name, 5, version, date),
    section('Name', `${literal(name)} \\- configuration of ${literal(program.name)}\n`),
    section('Description', unit + fromMarkdown(part('docs/reference.md', '## Configuration'))),
    section('Keys', texts.join('')),
    seeAlso(`${program.name}(1)`, 'guests.d(5)'),
  ].join('');
}

function typeText(value: string | undefined, repeatable = false): string {
  if (value === undefined) return 'true or false';
  return repeatable ? `list of strings, each ${italic(value)}` : italic(value);
}

function definitionsPage(programs: readonly string[], { version, date }: Edition): string {
  const [, text = ''] = /^# .*\n([\s\S]*)/.exec(read('docs/qemu.md')) ?? [];
  return [
    head('guests.d', 5, version, date),
    section('Name', 'guests.d \\- definitions of guests of QEMU\n'),
    section('Description', fromMarkdown(text)),
    seeAlso(...programs.map((name) => `${name}(1)`)),
  ].join('');
}

function seeAlso(...pages: readonly string[]): string {
  const names = pages.map((page) =>
    page.replace(/^(.*)\((\d)\)$/, (_, name, number) => `${bold(name)}(${number})`),
  );
  return section(
    'See also',
    `${names.join(',\n')}\n.PP\n${plain('/usr/share/doc/godwit')} has the documents.\n`,
  );
}

function serveOf({ commands }: Program): Command {
  return commands.find(({ name }) => name === 'serve')!;
}

/** What stands below a heading of a document, up to the next one. */
function part(document: string, heading: string): string {
  const [, after] = read(document).split(`${heading}\n`);
  if (after === undefined) throw new Error(`${document} has no "${heading}" for the manual`);
  return after.split(/^#/m)[0]!;
}

function read(document: string): string {
  return fs.readFileSync(path.join(root, document), 'utf8');
}

/** "Sends guests." as it follows a name: "sends guests". */
function asPhrase(sentence: string): string {
  return `${sentence[0]!.toLowerCase()}${sentence.slice(1).replace(/\.$/, '')}`;
}
