import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { type Running, root, run, start } from './run.ts';

/** The units as systemd sees them, and the configuration of both agents as real processes. */

const UNITS = [
  'agent-send/agent-send.service',
  'agent-recv/agent-recv.service',
  'agent-recv/agent-recv.socket',
];
const agents = ['agent-send', 'agent-recv'] as const;
/** Where the units expect the project. */
const INSTALLED = '/usr/lib/godwit';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-systemd-'));
const started: Running[] = [];

afterEach(async () => {
  for (const { child, ended } of started.splice(0)) {
    if (child.exitCode === null) child.kill('SIGKILL');
    await ended;
  }
});

afterAll(() => fs.rmSync(dir, { recursive: true }));

/** The units, with the project where it is now. */
function unitFile(unit: string): string {
  return path.join(dir, path.basename(unit));
}

beforeAll(() => {
  for (const unit of UNITS) {
    const text = fs.readFileSync(path.join(root, unit), 'utf8');
    fs.writeFileSync(unitFile(unit), text.replaceAll(`${INSTALLED}/`, root));
  }
});

async function analyze(...args: string[]) {
  const ran = promisify(execFile)('systemd-analyze', args, { cwd: dir });
  const { code = 0, stdout, stderr } = await ran.catch((failed) => failed);
  return { code, stdout, stderr };
}

describe('systemd', () => {
  test('finds nothing wrong with the units', async () => {
    // Their manual pages are in the package: test/package verifies the units there.
    const units = UNITS.map(unitFile);
    const { code, stdout, stderr } = await analyze('verify', '--man=no', ...units);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('would find it', async () => {
    const wrong = path.join(dir, 'wrong.service');
    const text = fs.readFileSync(unitFile('agent-send.service'), 'utf8');
    fs.writeFileSync(
      wrong,
      text.replace('Type=notify', 'Type=notice').replace('/agent-send serve', '/x'),
    );
    const { code, stderr } = await analyze('verify', wrong);
    expect(code).not.toBe(0);
    expect(stderr).toContain('notice');
  });

  test.each(agents)('rates the exposure of %s below 5', async (agent) => {
    const file = unitFile(`${agent}.service`);
    const { stdout } = await analyze('security', '--offline=true', '--no-pager', file);
    const [, exposure] = /Overall exposure level for \S+: ([\d.]+)/.exec(stdout) ?? [];
    expect(Number(exposure)).toBeGreaterThan(0);
    expect(Number(exposure)).toBeLessThan(5);
  });
});

/** Directives of a unit by name. */
function directives(unit: string): Map<string, string> {
  const text = fs.readFileSync(path.join(root, unit), 'utf8');
  const found = [...text.matchAll(/^(\w+)=(.*)$/gm)];
  return new Map(found.map(([, name = '', value = '']) => [name, value]));
}

describe.each(agents)('the unit of %s', (agent) => {
  const unit = directives(`${agent}/${agent}.service`);

  test('does not end guests with the agent', () => {
    expect(unit.get('KillMode')).toBe('process');
    expect(unit.get('OOMPolicy')).toBe('continue');
    expect(unit.get('RuntimeDirectoryPreserve')).toBe('yes');
    expect(unit.get('PrivateTmp')).toBeUndefined();
  });

  test('reloads by a signal, and does not try again what no restart mends', () => {
    expect(unit.get('ExecReload')).toBe('/bin/kill -HUP $MAINPID');
    expect(unit.get('RestartPreventExitStatus')).toBe(String(EXIT.usage));
  });

  test.runIf(process.getuid?.() === 0)(
    'names directories where the agent, as root, looks for them',
    async () => {
      const { stdout } = await run(agent, 'serve', '--help');
      const dirs = unit.get('StateDirectory')!.split(' ');
      expect(dirs).toEqual([`godwit/${agent}`, 'godwit/host']);
      for (const state of dirs) expect(stdout).toContain(`default /var/lib/${state})`);
      expect(stdout).toContain(`default /run/${unit.get('RuntimeDirectory')}/${agent}.sock)`);
    },
  );

  test('starts a command line that the agent takes', async () => {
    const [launcher = '', ...args] = unit.get('ExecStart')!.split(' ');
    expect(launcher).toBe(`${INSTALLED}/${agent}/${agent}`);
    const file = configure(PLACES);
    const here = args.map((arg) => (arg === `/etc/godwit/${agent}.json` ? file : arg));
    expect(here).toContain(file);
    expect((await run(agent, ...here, '--check-config')).code).toBe(EXIT.completed);
  });
});

function configure(content: unknown): string {
  const file = path.join(dir, 'agent.json');
  fs.writeFileSync(file, JSON.stringify(content), { mode: 0o600 });
  return file;
}

/** These keep an agent out of the places of the system. */
const PLACES = {
  socket: path.join(dir, 'run/agent.sock'),
  'guest-dir': path.join(dir, 'run/guests'),
  'state-dir': path.join(dir, 'state'),
  'host-dir': path.join(dir, 'host'),
};

describe.each(agents)('%s serve --check-config', (agent) => {
  test('shows what would be used and where it is from, and starts nothing', async () => {
    const state = path.join(dir, 'elsewhere');
    const config = configure({ 'peer-timeout': '7s', 'state-dir': '/nonexistent', socket: '/x/y' });
    const flags = ['--state-dir', state, '--socket', path.join(dir, 'run/agent.sock')];
    const more = ['--guest-dir', dir, '--host-dir', dir, '--check-config'];
    const args = ['serve', '--config', config, ...flags, ...more];
    const { code, stdout, stderr } = await run(agent, ...args);
    expect([code, stderr]).toEqual([EXIT.completed, '']);
    expect(stdout).toMatch(new RegExp(`^peer-timeout +7s +\\(${config}\\)$`, 'm'));
    expect(stdout).toMatch(new RegExp(`^state-dir +${state} +\\(command line\\)$`, 'm'));
    expect(fs.existsSync(state) || fs.existsSync(path.join(dir, 'run'))).toBe(false);

    const json = JSON.parse((await run(agent, ...args, '--json')).stdout);
    expect(json).toContainEqual({ option: 'peer-timeout', value: '7s', from: config });
    expect(json).toContainEqual({ option: 'state-dir', value: state, from: 'command line' });
  });

  test.each([
    ['a key that there is not', { 'peer-timeuot': '5s' }, '"peer-timeuot"'],
    ['a value of the wrong type', { 'peer-timeout': ['5s'] }, '"peer-timeout" takes DURATION'],
    [
      'a value that cannot be',
      { 'peer-timeout': 5 },
      '--peer-timeout cannot be "5": a bare number',
    ],
    ['a value out of range', { 'peer-timeout': '1h' }, '500 ms to 10 m'],
    ['a directory that cannot be made', { 'guest-dir': '/dev/null/x' }, '--guest-dir /dev/null/x'],
    ['records that cannot be kept', { 'host-dir': '/dev/null/h' }, '--host-dir /dev/null/h'],
    ['a path that is none', { 'host-dir': '' }, '--host-dir is a path of 1 to 4095 bytes, not ""'],
    ['a socket with too long a path', { socket: `/${'x'.repeat(107)}` }, '--socket is a path of'],
    ['a state directory that is none', { 'state-dir': '/dev/null' }, '--state-dir /dev/null'],
    ['a socket in no directory', { socket: '/dev/null/s' }, '--socket /dev/null/s'],
  ])('refuses %s, naming the file', async (_name, content, why) => {
    const config = configure({ ...PLACES, ...content });
    const args = ['serve', '--config', config, '--check-config'];
    const { code, stdout, stderr } = await run(agent, ...args);
    expect(stderr).toContain(why);
    expect(stderr).toContain(`${agent}: ${config}: `);
    expect([code, stdout]).toEqual([EXIT.usage, '']);
  });

  test('a value of the command line is not blamed on the file', async () => {
    const config = configure({ 'peer-timeout': '7s' });
    const args = ['serve', '--config', config, '--peer-timeout', '1h', '--check-config'];
    const { code, stderr } = await run(agent, ...args);
    expect([code, stderr]).toEqual([EXIT.usage, expect.not.stringContaining(config)]);
  });
});

test.each(agents)('%s serves by its file, and not by one that is wrong', async (agent) => {
  const socket = path.join(dir, `${agent}.sock`);
  const places = { 'state-dir': path.join(dir, agent), 'host-dir': path.join(dir, 'host') };
  const content = { socket, ...places, 'guest-dir': dir };
  const listen = agent === 'agent-recv' ? { listen: '127.0.0.1:0' } : {};
  const wrong = configure({ ...content, ...listen, nonsense: 1 });
  expect((await run(agent, 'serve', '--config', wrong)).code).toBe(EXIT.usage);
  expect(fs.existsSync(socket)).toBe(false);

  const daemon = start(agent, ['serve', '--config', configure({ ...content, ...listen })]);
  started.push(daemon);
  await daemon.saw('ready');
  expect((await run(agent, 'list', '--socket', socket)).stdout).toBe('no migrations\n');
});
