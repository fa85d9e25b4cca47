import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { routesOf } from '../lib/api/routes.ts';
import { EXIT } from '../lib/exit.ts';
import { loadDefinition } from '../lib/guest/qemu/definition.ts';
import { type Ended, root, run, start } from './cli/run.ts';

/** What the documents say an operator can type, against what there is: their very commands are run. */

type Agent = 'agent-send' | 'agent-recv';
const AGENTS: readonly Agent[] = ['agent-send', 'agent-recv'];

const NAMES = ['README.md', 'CONTRIBUTING.md', ...fs.globSync('docs/*.md', { cwd: root })];
const TEXTS = new Map(NAMES.map((name) => [name, read(name)]));
const REFERENCE = read('docs/reference.md');

/** Options of other programs that a document speaks of. */
const FOREIGN = [
  '--now',
  '--copy-storage-all',
  '--debug',
  '--history',
  '--verbose',
  '--cleanup',
  '--refresh',
  '--meta',
  ...['--xml', '--dname', '--undefinesource', '--persistent-xml'],
];
/** Of every command; the reference says so once. */
const COMMON = ['--json', '--help', '--socket PATH'];

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-documents-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));

function read(name: string): string {
  return fs.readFileSync(path.join(root, name), 'utf8');
}

/** A command as its help has it. */
interface Helped {
  /** `migrate GUEST HOST[:PORT]` */
  readonly usage: string;
  /** `--timeout DURATION`, as the help spells them. */
  readonly options: readonly string[];
}

const helps = new Map<string, Helped>();

beforeAll(async () => {
  for (const agent of AGENTS) {
    const { stdout } = await run(agent, '--help');
    const commands = [...stdout.matchAll(/^ {2}([a-z]+)(?: .*)?$/gm)].map(([, name]) => name!);
    for (const command of commands) {
      const help = (await run(agent, command, '--help')).stdout;
      const [, usage = ''] = /^Usage: \S+ (.*?)(?: \[options\])?$/m.exec(help)!;
      const options = [...help.matchAll(/^ {2}(--[\w-]+(?: \S+)?)(?= {2}|$)/gm)];
      helps.set(`${agent} ${command}`, { usage, options: options.map(([, option]) => option!) });
    }
  }
});

function optionsOf(command: string): string[] {
  return helps.get(command)!.options.filter((option) => !COMMON.includes(option));
}

/** Lines of a document's code blocks: continued ones joined, without prompts and remarks. */
function lines(text: string): string[] {
  return text
    .replaceAll(/ *\\\n */g, ' ')
    .split('\n')
    .filter((line) => line.startsWith('    '))
    .map((line) => line.trim().replace(/^\w*\$ /, ''))
    .map((line) => line.replace(/\s+#.*$/, '').replace(/ (?:&|\|).*$/, ''));
}

/** What an agent is started with in a line, if the line starts one. */
function commandOf(line: string): { agent: Agent; args: string[] } | undefined {
  const [program = '', ...args] = line.split(/\s+/);
  const agent = AGENTS.find((name) => program === name || program.endsWith(`/${name}/${name}`));
  const typed = args.filter((word) => word !== '…').map((word) => (word === 'ID' ? '4f2a' : word));
  return agent && { agent, args: typed };
}

function commandsOf(text: string): { agent: Agent; args: string[] }[] {
  return lines(text).flatMap((line) => commandOf(line) ?? []);
}

describe('the commands of', () => {
  beforeAll(async () => {
    const keygen = commandsOf(TEXTS.get('README.md')!).find(({ args }) => args[0] === 'keygen')!;
    expect((await runHere(keygen.agent, keygen.args)).code).toBe(EXIT.completed);
    for (const made of fs.readdirSync(path.join(dir, 'keys')))
      fs.copyFileSync(path.join(dir, 'keys', made), path.join(dir, made));
    for (const [, json, file] of TEXTS.get('docs/services.md')!.matchAll(/echo '(.*)' > (\S+)/g))
      fs.writeFileSync(path.join(dir, path.basename(file!)), json!);
  });

  test.each(NAMES.filter((name) => commandsOf(TEXTS.get(name)!).length > 0))(
    '%s are taken as they stand',
    async (name) => {
      const keys = fs.mkdtempSync(path.join(dir, 'made-'));
      for (const { agent, args } of commandsOf(TEXTS.get(name)!)) {
        const { code, stderr } = await dry(agent, args, keys);
        const said = `${agent} ${args.join(' ')}: exits ${code}, ${stderr}`;
        expect([EXIT.completed, EXIT['no-daemon']], said).toContain(code);
      }
    },
  );

  /** As far as it goes without a daemon: `serve` only looks, the others find nobody at their socket. */
  function dry(agent: Agent, args: readonly string[], keys: string): Promise<Ended> {
    const [command = ''] = args;
    const there = args.map((word) => word.replace('/etc/godwit', dir));
    if (command === 'serve') return runHere(agent, [...there, ...places(agent), '--check-config']);
    if (['keygen', 'renew'].includes(command)) return start(agent, args, keys).ended;
    return runHere(agent, [...args, '--socket', path.join(dir, 'nobody.sock')]);
  }

  function places(agent: Agent): string[] {
    const at = (name: string) => path.join(dir, `${agent}-${name}`);
    const state = [
      '--state-dir',
      at('state'),
      '--host-dir',
      at('host'),
      '--guest-dir',
      at('guests'),
    ];
    return ['--socket', at('socket'), ...state];
  }
});

/** In the directory that holds the keys. */
function runHere(agent: Agent, args: readonly string[]): Promise<Ended> {
  return start(agent, args, dir).ended;
}

test.each(NAMES)('%s names no option that there is not', (name) => {
  const known = new Set([...helps.values()].flatMap(({ options }) => options.map(nameOf)));
  for (const option of [...FOREIGN, ...scriptOptions()]) known.add(option);
  const named = TEXTS.get(name)!.match(/(?<![\w-])--[a-z][\w-]*/g) ?? [];
  expect(named.filter((option) => !known.has(option))).toEqual([]);
});

test.each(NAMES)('%s names no npm script that there is not', (name) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const named = [...TEXTS.get(name)!.matchAll(/npm run ([\w:]+)/g)].map(([, script]) => script!);
  expect(named.filter((script) => scripts[script] === undefined)).toEqual([]);
});

test.each(NAMES)('the links of %s lead somewhere', (name) => {
  const links = [...TEXTS.get(name)!.matchAll(/\]\(([^)#]+)(?:#([^)]+))?\)/g)];
  const lost = links.filter(([, to, heading]) => {
    const file = path.join(root, path.dirname(name), to!);
    return !fs.existsSync(file) || (heading !== undefined && !headings(file).includes(heading));
  });
  expect(lost.map(([link]) => link)).toEqual([]);
});

/** As links name them: in small letters, words joined. */
function headings(file: string): string[] {
  const found = fs.readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm);
  return [...found].map(([, words]) => words!.toLowerCase().replaceAll(' ', '-'));
}

/** Options of what `npm run` starts: their names stand in the files, quoted or as keys. */
function scriptOptions(): string[] {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const files = Object.values(scripts).flatMap((line) => /^node (\S+\.ts)/.exec(line)?.[1] ?? []);
  const texts = [...files.map(read), read('lib/guest/simulated/vmm-options.ts')];
  return texts.flatMap((text) =>
    [...text.matchAll(/^\s+'?([\w-]+)'?: \{\s*type: '/gm)].map(([, option]) => `--${option}`),
  );
}

function nameOf(option: string): string {
  return option.split(' ')[0]!;
}

describe('the reference has every', () => {
  test('command, with its arguments and options', () => {
    const documented = new Map<string, readonly string[]>();
    for (const [commands = '', , options = ''] of rows('## Commands')) {
      let agent = '';
      for (const code of codes(commands)) {
        const named = AGENTS.find((name) => code.startsWith(`${name} `));
        agent = named ?? agent;
        documented.set(named ? code : `${agent} ${code}`, [options, ...codes(options)]);
      }
    }
    expect([...documented.keys()].sort()).toEqual(
      [...helps].map(([name, { usage }]) => `${name.split(' ')[0]} ${usage}`).sort(),
    );
    for (const [usage, [text = '', ...options]] of documented) {
      if (/^see |^those of /.test(text)) continue; // compared below
      const ofCommand = usage.split(' ').slice(0, 2).join(' ');
      const signatures = options.filter((option) => option.startsWith('--'));
      const here = usage.startsWith('agent-recv')
        ? signatures.filter(ofResolve(ofCommand))
        : signatures;
      expect([ofCommand, here.sort()]).toEqual([ofCommand, optionsOf(ofCommand).sort()]);
    }
  });

  /** One row stands for several commands of agent-recv, and says of which its options are. */
  function ofResolve(command: string): (option: string) => boolean {
    return (option) =>
      command.endsWith('resolve') || !['--keep-here', '--give-up'].includes(option);
  }

  test('option of a move', () => {
    const [both, migrateOnly] = tables('## Options of a move');
    const set = optionsOf('agent-send set');
    const migrate = optionsOf('agent-send migrate');
    expect(firsts(both!)).toEqual(set.sort());
    expect(firsts(migrateOnly!)).toEqual(migrate.filter((option) => !set.includes(option)).sort());
    const check = migrate.filter((option) => option !== '--detach');
    expect(optionsOf('agent-send check')).toEqual(check);
  });

  test('option of an evacuation', () => {
    const rows = read('docs/evacuate.md').match(/^\| `--.*?(?=(?<!\\)\| )/gm) ?? [];
    const own = rows.flatMap((row) => codes(row.replaceAll('\\|', '|')));
    // What says what one domain is to be cannot be said of all.
    const notOf = [...own, '--dest-name NAME', '--dest-xml FILE'];
    const others = optionsOf('agent-send migrate').filter((option) => !notOf.includes(option));
    expect([...own, ...others].sort()).toEqual(optionsOf('agent-send evacuate').sort());
  });

  test.each(['agent-send', 'agent-recv'] as const)('option of %s serve', (agent) => {
    const [, short] = agent.split('-');
    const here = rows('## Options of `serve`').filter(([, who]) => who === 'both' || who === short);
    expect(firsts(here)).toEqual([...optionsOf(`${agent} serve`), '--socket PATH'].sort());
  });

  test('exit code', () => {
    expect(rows('## Exit codes').map(([code]) => Number(code))).toEqual(Object.values(EXIT));
  });

  test('route, and with its methods', () => {
    for (const role of ['send', 'receive'] as const) {
      const documented = rows('## API').flatMap(([path = '', agent, text = '']) =>
        text
          .split(/[,;] /)
          .filter((part) => role === 'send' || (agent === 'both' && !part.endsWith('(send)')))
          .flatMap((part) => /^[A-Z]+\b/.exec(part) ?? [])
          .map((method) => `${method} ${codes(path)[0]}`),
      );
      const routes = routesOf({ role }).map(({ method, path }) => `${method} ${path}`);
      expect(documented.sort()).toEqual(routes.sort());
    }
  });
});

test('the definition of docs/qemu.md is one', () => {
  const [text] = /^ {4}\{\n[\s\S]*?^ {4}\}$/m.exec(read('docs/qemu.md'))!;
  const places = path.join(dir, 'guests.d');
  fs.mkdirSync(places, { mode: 0o700 });
  fs.writeFileSync(path.join(places, 'vm1.json'), text, { mode: 0o600 });
  const [short] = /^ {4}\{"hypervisor".*\}$/m.exec(read('README.md'))!;
  fs.writeFileSync(path.join(places, 'vm2.json'), short, { mode: 0o600 });
  expect(loadDefinition(places, 'vm1', ['/dev/shm'])).toMatchObject({ qmp: '/run/vm1.qmp' });
  expect(loadDefinition(places, 'vm2', ['/dev/shm'])).toMatchObject({ qmp: '/run/vm1.qmp' });
});

/** Tables of a section of the reference, as cells without their heads. */
function tables(section: string): string[][][] {
  const [, text = ''] = REFERENCE.split(`\n${section}\n`);
  return text
    .split(/^## /m)[0]!
    .split('\n\n')
    .map((part) => part.trim())
    .filter((part) => part.startsWith('|'))
    .map((table) => table.split('\n').slice(2).map(cells));
}

function rows(section: string): string[][] {
  return tables(section).flat();
}

function cells(line: string): string[] {
  return line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function codes(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);
}

/** What each row is about: the code that it begins with. */
function firsts(table: readonly string[][]): string[] {
  return table.map(([cell = '']) => codes(cell)[0]!).sort();
}
