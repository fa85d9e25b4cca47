import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { program as receive } from '../../agent-recv/main.ts';
import { program as send } from '../../agent-send/main.ts';
import { EXIT } from '../../lib/exit.ts';
import { bashCompletion } from '../../lib/package/bash.ts';
import { fishCompletion } from '../../lib/package/fish.ts';
import { manualOf } from '../../lib/package/manual.ts';
import { zshCompletion } from '../../lib/package/zsh.ts';
import { root } from '../cli/run.ts';

/** Manual pages and completion, made of the commands' own definitions, as the real programs read them. */

const programs = [send, receive];
const pages = manualOf(programs, { version: '0.1.0', date: '2026-11-29' });
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-words-'));

beforeAll(() => {
  for (const [name, text] of pages) fs.writeFileSync(path.join(dir, name), text);
  for (const program of programs) {
    const file = (name: string) => path.join(dir, name.replace('NAME', program.name));
    fs.writeFileSync(file('NAME.bash'), bashCompletion(program));
    fs.writeFileSync(file('_NAME'), zshCompletion(program));
    fs.writeFileSync(file('NAME.fish'), fishCompletion(program));
  }
});

afterAll(() => fs.rmSync(dir, { recursive: true }));

function has(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

describe.skipIf(!has('groff'))('the manual', () => {
  test.each([...pages.keys()])('%s is roff without a warning', (page) => {
    const args = ['-ww', '-t', '-man', '-Tutf8', path.join(dir, page)];
    const { status, stderr } = spawnSync('groff', args, { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
  });

  test.skipIf(!has('mandoc'))('and mandoc has nothing against it either', () => {
    const files = [...pages.keys()].map((page) => path.join(dir, page));
    const args = ['-Tlint', '-Wwarning', ...files];
    const { status, stdout } = spawnSync('mandoc', args, { encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, '']);
  });

  test('a mistake would be found', () => {
    const wrong = path.join(dir, 'wrong.1');
    fs.writeFileSync(wrong, pages.get('guests.d.5')!.replace('.PP\n', '.PPP\n'));
    const { stderr } = spawnSync('groff', ['-ww', '-t', '-man', '-Tutf8', wrong], {
      encoding: 'utf8',
    });
    expect(stderr).toContain('PPP');
  });

  test.each(programs)(
    'that of $name has every command, option and exit code',
    ({ name, commands }) => {
      const page = shown(`${name}.1`);
      for (const command of commands) {
        expect(page).toContain(` ${[command.name, ...command.arguments].join(' ')} `);
        for (const option of Object.keys(command.options)) expect(page).toContain(` --${option}`);
      }
      const [, codes = ''] = / EXIT STATUS (.*) ENVIRONMENT /.exec(page)!;
      for (const code of Object.values(EXIT)) expect(codes).toMatch(new RegExp(`\\b${code} \\w`));
    },
  );

  test.each(programs)(
    'the configuration of $name has every option of serve, and of which kind it is',
    (program) => {
      const page = shown(`${program.name}.json.5`);
      const { options } = program.commands.find(({ name }) => name === 'serve')!;
      for (const [key, { value, repeatable }] of Object.entries(options)) {
        if (['config', 'check-config'].includes(key)) continue;
        const each = repeatable ? `list of strings, each ${value}` : (value ?? 'true or false');
        expect(page).toContain(` ${key}: ${each} `);
      }
    },
  );

  test('guests.d has the example as it must be typed, and the hooks', () => {
    const page = shown('guests.d.5');
    expect(page).toContain('"qmp": "/run/vm1.qmp"');
    expect(page).toContain('"-object", "memory-backend-file,id=ram,size=4G,');
    expect(page).toContain("postRelease source when the source's copy is gone");
  });
});

/** A page as it is read, in one line. */
function shown(page: string): string {
  const args = ['-t', '-man', '-Tutf8', '-rLL=300n', '-P-c', '-P-b', '-P-u', path.join(dir, page)];
  return execFileSync('groff', args, { encoding: 'utf8' })
    .replace(/\s+/g, ' ')
    .replaceAll('\u2212', '-')
    .replaceAll('\u2019', "'");
}

/** What a shell prints that has a terminal, in which a person types. */
function typed(shell: string, lines: readonly string[]): string {
  const places = programs.map(({ name }) => path.join(root, name)).join(':');
  const args = ['-qec', shell, '/dev/null'];
  const env = { ...process.env, PATH: `${places}:${process.env.PATH}`, TERM: 'dumb' };
  const input = `${lines.join('\n')}\nexit\n`;
  return spawnSync('script', args, { env, input, encoding: 'utf8' }).stdout;
}

describe('completion in bash', () => {
  test.each(programs)('of $name, by the tabulator key', ({ name }) => {
    const shown = typed('bash --norc --noprofile -i', [
      `source ${path.join(dir, `${name}.bash`)}`,
      `${name} versi\t--js\t`,
    ]);
    expect(shown).toContain(`{"program":"${name}"`);
  });

  test.each([
    [
      ['agent-send', ''],
      ['migrate', 'cutover', '--version'],
    ],
    [['agent-send', 'cut'], ['cutover']],
    [
      ['agent-send', 'resolve', '--'],
      ['--keep-here', '--give-up', '--socket', '--json', '--help'],
    ],
    [
      ['agent-send', 'migrate', 'vm1', 'hostb', '--max'],
      ['--max-suspend-time', '--max-iters'],
    ],
    [
      ['agent-send', 'migrate', '--prefer', ''],
      ['workload', 'completion'],
    ],
    [['agent-send', 'migrate', '--prefer', '=', 'w'], ['workload']],
    [
      ['agent-send', 'migrate', '--prefer', '='],
      ['workload', 'completion'],
    ],
    [['agent-send', 'migrate', '--timeout', ''], []],
    [['agent-send', 'migrate', 'vm1', '--prefer', 'workload', 'localh'], ['localhost']],
    [['agent-send', 'migrate', 'vm1', '--prefer', '=', 'workload', 'localh'], ['localhost']],
    [['agent-recv', 'keygen', 'hosta', 'localh'], ['localhost']],
    [['agent-recv', 'keygen', '--dir', path.join(root, 'pro')], [path.join(root, 'proto')]],
  ])('%j offers %j', (words, expected) => {
    const [program = ''] = words;
    const offer = `COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); ${`_${program.replace('-', '_')}`} 2>/dev/null
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const script = `source ${path.join(dir, `${program}.bash`)}; ${offer}`;
    const offered = execFileSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' });
    const names = offered.split('\n').filter(Boolean);
    if (expected.length === 0) expect(names).toEqual([]);
    expect(names).toEqual(expect.arrayContaining(expected));
  });
});

test.skipIf(!has('zsh')).each(programs)('completion of $name in zsh', ({ name }) => {
  const shown = typed('zsh -f -i', [
    `fpath=(${dir} $fpath); autoload -Uz compinit; compinit -D -u`,
    `${name} versi\t--js\t`,
  ]);
  expect(shown).toContain(`{"program":"${name}"`);
});

describe.skipIf(!has('fish'))('completion in fish', () => {
  function offered(line: string): string[] {
    const sources = programs.map(({ name }) => `source ${path.join(dir, `${name}.fish`)};`);
    const script = `${sources.join('')} complete -C '${line}'`;
    const printed = execFileSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' });
    return printed.split('\n').map((word) => word.split('\t')[0]!);
  }

  test.each([
    ['agent-send mig', 'migrate'],
    ['agent-send migrate --max-s', '--max-suspend-time'],
    ['agent-send migrate --prefer wor', 'workload'],
    ['agent-recv resolve --kee', '--keep-here'],
  ])('%s', (line, word) => {
    expect(offered(line)).toContain(word);
  });
});
