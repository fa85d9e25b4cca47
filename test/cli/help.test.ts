import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { root, run } from './run.ts';

const COMMANDS = {
  'agent-send': [
    ...[
      'serve',
      'migrate',
      'check',
      'evacuate',
      'list',
      'show',
      'attach',
      'watch',
      'wait',
      'set',
      'cutover',
      'cancel',
      'resolve',
      'report',
      'replay',
      'guests',
      'profile',
      'calibration',
      'ocf',
      'xl',
    ],
    'version',
  ],
  'agent-recv': [
    'serve',
    'list',
    'show',
    'watch',
    'wait',
    'cancel',
    'resolve',
    'keygen',
    'renew',
    'version',
  ],
} as const;

const agents = ['agent-send', 'agent-recv'] as const;

test.each(agents)('%s --help lists every command and every exit code', async (agent) => {
  for (const flag of ['--help', '-h', 'help']) {
    const { code, stdout, stderr } = await run(agent, flag);
    expect([code, stderr]).toEqual([0, '']);
    const listed = [...stdout.matchAll(/^ {2}([a-z]+)(?: |$)/gm)].map(([, name]) => name);
    expect(listed).toEqual(COMMANDS[agent]);
    const codes = [...stdout.matchAll(/^ {2}(\d) {2}\w/gm)].map(([, digit]) => Number(digit));
    expect(codes).toEqual(Object.values(EXIT));
  }
});

test.each(agents.flatMap((agent) => COMMANDS[agent].map((command) => [agent, command] as const)))(
  '%s %s --help explains it',
  async (agent, command) => {
    const { code, stdout, stderr } = await run(agent, command, '--help');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`Usage: ${agent} ${command}`);
    expect(stdout).toMatch(/^ {2}--json +\S/m);
    expect(stdout).toMatch(/^ {2}--help +\S/m);
    expect(stdout).toContain('Exit codes:');
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  },
);

test('the help of migrate names units, ranges and defaults', async () => {
  const { stdout } = await run('agent-send', 'migrate', '--help');
  for (const [option, facts] of [
    ['max-suspend-time DURATION', '10 ms to 1 h 00 m; default 300ms'],
    ['timeout DURATION', '1.00 s to 168 h 00 m; default none'],
    ['prefer workload|completion', 'default workload'],
    ['pause-below DURATION', '1 ms to 1 h 00 m; default --max-suspend-time'],
    ['abort-above DURATION', '10 ms to 1 h 00 m; default none'],
    ['max-iters N', '1 to 10000; default 5'],
    ['min-remaining PAGES', '0 to 4294967296; default 50'],
    ['hold', 'restarted meanwhile ends the move'],
    ['at TIME', 'the clock of this host'],
    ['window FROM-TO', 'of any day'],
    ['bandwidth RATE', 'default none'],
    ['suspend-bandwidth RATE', 'default none'],
    ['policy contract|xen|custom', 'default contract'],
    ['lanes N', '1 to 64; default'],
  ] as const) {
    const [, explained = ''] = stdout.split(`  --${option} `);
    expect([option, explained.split(/\n {2}--/)[0]]).toEqual([
      option,
      expect.stringContaining(facts),
    ]);
  }
});

test.each(agents)('%s says what may have been meant', async (agent) => {
  for (const [args, meant] of [
    [['lsit'], 'list'],
    [['list', '--scoket', 'x'], '--socket'],
  ] as const) {
    const { code, stderr } = await run(agent, ...args);
    expect([code, stderr]).toEqual([
      EXIT.usage,
      expect.stringContaining(`did you mean "${meant}"?`),
    ]);
  }
});

test('without a command the help is shown, and that is a mistake', async () => {
  const { code, stdout } = await run('agent-recv');
  expect(code).toBe(EXIT.usage);
  expect(stdout).toContain('Usage: agent-recv COMMAND');
});

test.each(agents)('%s version', async (agent) => {
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  expect((await run(agent, 'version')).stdout).toMatch(new RegExp(`^${agent} ${version} `));
  expect((await run(agent, '--version')).stdout).toMatch(new RegExp(`^${agent} ${version} `));
  const { stdout } = await run(agent, 'version', '--json');
  expect(JSON.parse(stdout)).toMatchObject({ program: agent, version });
});

test.each(agents)('%s runs through links from anywhere', (agent) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-link-'));
  try {
    fs.symlinkSync(path.join(root, agent, agent), path.join(dir, 'first'));
    fs.symlinkSync('first', path.join(dir, agent));
    const stdout = execFileSync(path.join(dir, agent), ['version'], { cwd: '/', encoding: 'utf8' });
    expect(stdout).toContain(`${agent} `);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});

test.each(agents)('%s says what to do when nothing is installed', (agent) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'a project '));
  try {
    fs.mkdirSync(path.join(dir, agent));
    const launcher = path.join(dir, agent, agent);
    fs.copyFileSync(path.join(root, agent, agent), launcher);
    const { status, stderr } = spawnSync(launcher, ['list'], { encoding: 'utf8' });
    expect(status).toBe(EXIT.failed);
    expect(stderr).toMatch(new RegExp(`^${agent}: .* is missing; run "npm ci" in ${dir}\n$`));
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
