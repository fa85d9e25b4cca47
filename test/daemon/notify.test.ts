import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Notifier } from '../../lib/daemon/notify.ts';
import { EXIT } from '../../lib/exit.ts';
import { type Running, root, watch } from '../cli/run.ts';

/** Real daemons and the real systemd-notify; a datagram socket in place of systemd's. */

let dir = '';
let manager: Running;
const started: Running[] = [];

beforeEach(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-notify-'));
  const script = fileURLToPath(new URL('service-manager.pl', import.meta.url));
  manager = begin('perl', [script, path.join(dir, 'notify')], {});
  await manager.saw('bound');
});

afterEach(async () => {
  for (const { child, ended } of started.splice(0)) {
    if (child.exitCode === null) child.kill('SIGKILL');
    await ended;
  }
  fs.rmSync(dir, { recursive: true });
});

function begin(program: string, args: readonly string[], env: Record<string, string>): Running {
  const options = { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] as const };
  const running = watch(spawn(program, args, { ...options, stdio: [...options.stdio] }));
  started.push(running);
  return running;
}

/** Starts an agent that is watched with a period of 100 ms. */
function serve(agent: 'agent-send' | 'agent-recv', env: Record<string, string> = {}): Running {
  const args = [
    ...['serve', '--socket', path.join(dir, 'agent.sock'), '--state-dir', dir, '--host-dir', dir],
    ...['--guest-dir', dir, ...(agent === 'agent-recv' ? ['--listen', '127.0.0.1:0'] : [])],
  ];
  return begin(path.join(root, agent, agent), args, env);
}

const managed = () => ({ NOTIFY_SOCKET: path.join(dir, 'notify'), WATCHDOG_USEC: '100000' });

/** What has arrived, without what the tool adds to wait for its delivery. */
function arrived(): string[] {
  const lines = manager.printed().split('\n');
  return lines.filter((line) => !['bound', 'BARRIER=1', ''].includes(line));
}

function until(condition: () => void): Promise<void> {
  return vi.waitFor(condition, { timeout: 100_000, interval: 20 });
}

function childrenOf({ pid }: ChildProcess): string[] {
  const pids = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return pids === '' ? [] : pids.split(' ');
}

describe.each(['agent-send', 'agent-recv'] as const)('%s', (agent) => {
  test('says that it is ready, that it lives, and that it ends', async () => {
    const daemon = serve(agent, managed());
    await until(() => expect(arrived()[6]).toBe('WATCHDOG=1'));
    expect(arrived().slice(0, 3)).toEqual([
      expect.stringMatching(/^STATUS=.*control socket/),
      'READY=1',
      'WATCHDOG=1',
    ]);
    await until(() => expect(childrenOf(daemon.child)).toHaveLength(1)); // and no tool is left of it
    daemon.child.kill('SIGTERM');
    const { code, stderr } = await daemon.ended;
    expect([code, stderr]).toEqual([EXIT.completed, expect.stringContaining('stopped')]);
    // Each is sent by a process of its own: a last sign of life may come after them.
    const last = () => arrived().filter((line) => line !== 'WATCHDOG=1');
    await until(() => expect(last().slice(-2)).toEqual(['STOPPING=1', 'STATUS=finishing']));
  });

  test('that is killed says nothing more, and leaves no process', async () => {
    const daemon = serve(agent, managed());
    await until(() => expect(arrived()).toContain('WATCHDOG=1'));
    await until(() => expect(childrenOf(daemon.child)).toHaveLength(1));
    daemon.child.kill('SIGKILL');
    await daemon.ended; // whoever had its stderr has ended, too
    expect(arrived()).not.toContain('STOPPING=1');
  });

  test('starts no process when nobody wants to know', async () => {
    const daemon = serve(agent, { WATCHDOG_USEC: '100000' });
    await daemon.saw('ready');
    await until(() => expect(childrenOf(daemon.child)).toEqual([])); // what it was started with has ended
    expect(arrived()).toEqual([]);
  });

  test('serves although systemd-notify is missing, and says so', async () => {
    const bin = path.join(dir, 'bin');
    fs.mkdirSync(bin);
    for (const tool of ['readlink', 'dirname', 'flock'])
      fs.symlinkSync(`/usr/bin/${tool}`, `${bin}/${tool}`);
    const daemon = serve(agent, { ...managed(), PATH: bin });
    await daemon.saw('ready');
    await daemon.saw('systemd-notify: not found');
    daemon.child.kill('SIGTERM');
    expect((await daemon.ended).code).toBe(EXIT.completed);
  });
});

test('the watchdog is not fed while the event loop stands still', async () => {
  const module = new URL('../../lib/daemon/notify.ts', import.meta.url).href;
  const script = `
    import { Notifier } from ${JSON.stringify(module)};
    const notifier = new Notifier();
    notifier.ready('fed');
    setTimeout(() => {
      notifier.ready('stands still');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500); // 30 feedings long
      notifier.ready('goes on');
    }, 500);
    setTimeout(() => {}, 60_000);`;
  begin(process.execPath, ['--input-type=module', '-e', script], managed());
  await until(() => expect(arrived()).toContain('STATUS=goes on'));
  const all = arrived();
  const [still, on] = [all.indexOf('STATUS=stands still'), all.indexOf('STATUS=goes on')];
  expect(all.slice(0, still)).toContain('WATCHDOG=1');
  expect(all.slice(still, on)).toEqual(['STATUS=stands still', 'READY=1']);
});

describe('the variables', () => {
  test('are taken out, so that no guest takes them for its own', () => {
    const env = { NOTIFY_SOCKET: '', WATCHDOG_USEC: '1', WATCHDOG_PID: '7', PATH: '/bin' };
    new Notifier(env, 7);
    expect(env).toEqual({ PATH: '/bin' });
  });

  test('of a watchdog that watches another process are not obeyed', async () => {
    const daemon = serve('agent-send', { ...managed(), WATCHDOG_PID: '1' });
    await until(() => expect(arrived()).toContain('READY=1'));
    daemon.child.kill('SIGTERM');
    await until(() => expect(arrived()).toContain('STATUS=finishing'));
    expect(arrived()).not.toContain('WATCHDOG=1');
  });
});
