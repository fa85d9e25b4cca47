import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { inBackground } from '../../lib/daemon/background.ts';
import { EXIT } from '../../lib/exit.ts';
import { type Running, root, run, watch } from '../cli/run.ts';

/** Real daemons with a planted fault: SIGWINCH rejects a promise, SIGUSR2 throws. */

const PLANTED = `
  process.on('SIGWINCH', () => void Promise.reject(new Error('planted rejection')));
  process.on('SIGUSR2', () => { throw new Error('planted exception'); });`;
const agents = ['agent-send', 'agent-recv'] as const;
type Agent = (typeof agents)[number];

let dir = '';
let daemon: Running | undefined;

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-fault-'));
});

afterEach(async () => {
  if (daemon?.child.exitCode === null) daemon.child.kill('SIGKILL');
  await daemon?.ended;
  daemon = undefined;
  fs.rmSync(dir, { recursive: true });
});

function argumentsOf(agent: Agent): string[] {
  const places = ['--state-dir', path.join(dir, 'state'), '--guest-dir', dir, '--host-dir', dir];
  const listen = agent === 'agent-recv' ? ['--listen', '127.0.0.1:0'] : [];
  return ['serve', '--socket', path.join(dir, 'agent.sock'), ...places, ...listen];
}

function launch(agent: Agent, planted: string, stderr: 'pipe' | number = 'pipe') {
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(planted)}`;
  const launcher = path.join(root, agent, agent);
  const env = { ...process.env, NODE_OPTIONS };
  return spawn(launcher, argumentsOf(agent), { env, stdio: ['ignore', 'pipe', stderr] });
}

function serve(agent: Agent, planted = PLANTED): Running {
  daemon = watch(launch(agent, planted));
  return daemon;
}

function list(agent: Agent) {
  return run(agent, 'list', '--socket', path.join(dir, 'agent.sock'));
}

describe.each(agents)('%s', (agent) => {
  test('logs a rejection that nobody handled, with its stack, and lives on', async () => {
    const { child, saw, printed } = serve(agent);
    await saw('ready');
    child.kill('SIGWINCH');
    await saw('planted rejection');
    expect(printed()).toMatch(/ error .*Error: planted rejection .* at /);
    expect((await list(agent)).stdout).toBe('no migrations\n');
    child.kill('SIGTERM');
    expect((await daemon!.ended).code).toBe(EXIT.completed);
  });

  test('ends in order after an exception that nobody caught', async () => {
    const { child, saw, ended } = serve(agent);
    await saw('ready');
    child.kill('SIGUSR2');
    const { code, stderr } = await ended;
    expect(code).toBe(EXIT.internal);
    expect(stderr).toMatch(/ error .*Error: planted exception .* at .*\n.*finishing\n.*stopped\n$/);
    expect(fs.existsSync(path.join(dir, 'agent.sock'))).toBe(false);
    const again = serve(agent); // its state is free
    await again.saw('ready');
  });

  test('an exception while it starts ends it with the same code', async () => {
    const { ended } = serve(
      agent,
      `setTimeout(() => { throw new Error('early'); }, 0);
      const block = () => setImmediate(block); block();`,
    );
    const { code, stderr } = await ended;
    expect(code).toBe(EXIT.internal);
    expect(stderr).toContain('a fault of the agent, which ends: Error: early');
  });

  test('goes on when nobody reads its log', async () => {
    const { child, saw } = serve(agent);
    await saw('ready');
    child.stderr!.destroy();
    child.kill('SIGWINCH');
    child.kill('SIGWINCH');
    expect((await list(agent)).stdout).toBe('no migrations\n');
    child.kill('SIGTERM');
    expect((await daemon!.ended).code).toBe(EXIT.completed);
  });

  test.runIf(process.getuid?.() === 0)('goes on when its log has no room', async () => {
    const disk = path.join(dir, 'disk');
    fs.mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk]);
    const log = fs.openSync(path.join(disk, 'log'), 'a');
    try {
      spawnSync('dd', ['if=/dev/zero', `of=${path.join(disk, 'ballast')}`, 'bs=4k']);
      const child = launch(agent, PLANTED, log);
      const ended = new Promise((resolve) => child.once('close', resolve));
      await expect.poll(async () => (await list(agent)).stdout).toBe('no migrations\n');
      child.kill('SIGWINCH');
      expect((await list(agent)).stdout).toBe('no migrations\n');
      child.kill('SIGTERM');
      expect(await ended).toBe(EXIT.completed);
    } finally {
      fs.closeSync(log);
      execFileSync('umount', [disk]);
    }
  });
});

test('work in the background never rejects, and its failure is told with what it was about', async () => {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    await inBackground('4f2a vm1', Promise.reject(new Error('no luck')));
    await inBackground('4f2a vm1', Promise.resolve());
    expect(write).toHaveBeenCalledTimes(1);
    const [line] = write.mock.calls[0]!;
    expect(line).toMatch(/ error \[4f2a vm1\] failed in the background: Error: no luck .* at /);
  } finally {
    write.mockRestore();
  }
});
