import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import { type Running, root, start, watch } from '../cli/run.ts';
import { until } from './daemon.ts';

/**
 * The migration that README shows: its commands, in its order, print what it says they print, but for
 * figures. Both hosts are this one, so `hostb` is `localhost`; ports and directories are the test's, the
 * guest is small, and the limit is one that a machine with other things to do keeps.
 */

interface Step {
  readonly command: string;
  /** Lines that README shows below it. */
  readonly shown: readonly string[];
}

const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8');
const [, migration = ''] = /^## One migration\n(.*?)^## /ms.exec(readme)!;
const steps = stepsOf(migration);

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-readme-'));
const running: Running[] = [];
let port = '';

beforeAll(() => fs.mkdirSync(path.join(dir, 'sent'), { mode: 0o700 }));

afterAll(async () => {
  const guests = ['sent', 'received'].map((name) => path.join(dir, name, 'vm1.sock'));
  for (const socket of guests.filter((file) => fs.existsSync(file))) {
    const guest = await ControlClient.connect(socket, 'vm1').catch(() => undefined);
    await guest?.execute('quit').catch(() => {}); // it is gone before it can answer
  }
  for (const { child, ended } of running) {
    child.kill('SIGTERM');
    await ended;
  }
  for (const socket of guests) // which a guest removes itself
    await until(() => !fs.existsSync(socket), 'the guest has ended');
  fs.rmSync(dir, { recursive: true });
});

test('has all its steps', () => {
  const names = steps.map(({ command }) => /^agent-\w+ \w+|^npm run \w+/.exec(command)?.[0]);
  expect(names).toEqual([
    ...['agent-recv keygen', 'agent-recv serve', 'agent-send serve', 'npm run guest'],
    ...['guests', 'profile', 'check', 'migrate', 'list', 'report'].map((it) => `agent-send ${it}`),
  ]);
});

test('happens as README shows it', async () => {
  for (const { command, shown } of steps) {
    const [program = '', ...args] = here(command).split(/\s+/);
    if (program === 'npm') await boot(args);
    else if (args[0] === 'serve') await serve(program as 'agent-send', args);
    else {
      const { code, stdout, stderr } = await start(program as 'agent-send', args, dir).ended;
      expect(code, `${command}: ${stderr}`).toBe(EXIT.completed);
      expect([command, ...labels(stdout.split('\n'))]).toEqual(
        expect.arrayContaining([command, ...labels(shown)]),
      );
      if (args[0] === 'keygen') copyKeys();
    }
  }
});

/** A command as it can be typed here. */
function here(command: string): string {
  return command
    .replaceAll('hostb', 'localhost')
    .replace('vm1 localhost', `vm1 localhost:${port}`)
    .replace('0.0.0.0:7070 --data-ports 7071-7086', '127.0.0.1:0')
    .replace('/run/godwit/guests', path.join(dir, 'sent'))
    .replace('300ms', '30s')
    .replace('--for 5s', '--for 1s')
    .replace(/^agent-send (?!serve).*/, `$& --socket ${path.join(dir, 'agent-send.sock')}`);
}

async function serve(agent: 'agent-send' | 'agent-recv', args: string[]): Promise<void> {
  const at = (name: string) => path.join(dir, name);
  const guests = at(agent === 'agent-send' ? 'sent' : 'received');
  const daemon = start(
    agent,
    [
      ...[...args, '--socket', at(`${agent}.sock`), '--state-dir', at(agent)],
      ...['--host-dir', at(`${agent}-host`), '--guest-dir', guests],
    ],
    dir,
  );
  running.push(daemon);
  await daemon.saw('ready: ');
  port = /port (\d+)/.exec(daemon.printed())?.[1] ?? port;
}

/** `npm run guest`, without npm between the test and the process. */
async function boot([, script = '', , ...args]: string[]): Promise<void> {
  const { scripts } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  const [, file] = scripts[script].split(' ');
  const child = spawn(process.execPath, [file, ...args, '--memory', '64MiB'], { cwd: root });
  running.push(watch(child));
  await expect.poll(() => fs.existsSync(path.join(dir, 'sent', 'vm1.sock'))).toBe(true);
}

/** "Copy to each host the files that keygen names." */
function copyKeys(): void {
  for (const name of fs.readdirSync(path.join(dir, 'keys')))
    fs.copyFileSync(path.join(dir, 'keys', name), path.join(dir, name));
}

/** What a line says before its first figure; lines of progress, which begin with one, have none. */
function labels(lines: readonly string[]): string[] {
  return lines
    .map((line) => /^[^\d:]*/.exec(line.trim().replaceAll(/\s+/g, ' '))![0].trim())
    .filter((label) => label !== '' && label !== '…');
}

/** Commands that begin with the host they are typed on, or are keygen's, and what is shown below them. */
function stepsOf(text: string): Step[] {
  const steps: { command: string; shown: string[] }[] = [];
  const blocks = text.replaceAll(/ *\\\n */g, ' ').split('\n');
  for (const line of blocks.filter((line) => line.startsWith('    '))) {
    const typed = /^ {4}(?:host[ab]\$ (.*)|(agent-recv keygen .*))$/.exec(line);
    const command = typed?.[1] ?? typed?.[2];
    if (command !== undefined) steps.push({ command: command.replace(/ &$/, ''), shown: [] });
    else if (!/^ {4}agent-send /.test(line)) steps.at(-1)?.shown.push(line);
  }
  return steps;
}
