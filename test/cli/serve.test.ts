import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { Journal } from '../../lib/ownership/journal/journal.ts';
import { type Running, run, start } from './run.ts';

/** Both daemons as processes: their start, their end, and what is left of them. */

let dir = '';
const daemons: Running[] = [];

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-serve-'));
});

afterEach(async () => {
  for (const { child, ended } of daemons.splice(0)) {
    if (child.exitCode === null) child.kill('SIGKILL');
    await ended;
  }
  fs.rmSync(dir, { recursive: true });
});

async function serve(agent: 'agent-send' | 'agent-recv') {
  const socket = path.join(dir, `${agent}.sock`);
  const places = ['--guest-dir', path.join(dir, 'guests'), '--host-dir', path.join(dir, 'host')];
  const paths = ['--socket', socket, '--state-dir', dir, ...places];
  const listen = agent === 'agent-recv' ? ['--listen', '127.0.0.1:0'] : [];
  const args = ['serve', ...paths, ...listen];
  const daemon = start(agent, args);
  daemons.push(daemon);
  await daemon.saw('ready');
  return { daemon, socket, args };
}

const agents = ['agent-send', 'agent-recv'] as const;

test.each(agents.flatMap((agent) => [[agent, 'SIGTERM'] as const, [agent, 'SIGINT'] as const]))(
  '%s serves until %s, which ends it cleanly',
  async (agent, signal) => {
    const { daemon, socket } = await serve(agent);
    expect((await run(agent, 'list', '--socket', socket)).stdout).toBe('no migrations\n');
    daemon.child.kill(signal);
    const { code, stdout, stderr } = await daemon.ended;
    expect([code, stdout]).toEqual([EXIT.completed, '']);
    expect(stderr).toMatch(/^\d{4}-\d\d-\d\dT\S+Z info .*ready.*\n.* SIG.*\n.* stopped\n$/);
    expect(fs.existsSync(socket)).toBe(false);
  },
);

test.each(agents)(
  'a second %s on the same socket is refused, the first one stays',
  async (agent) => {
    const { socket, args } = await serve(agent);
    const other = path.join(dir, 'other');
    const { code, stderr } = await run(agent, ...args, '--state-dir', other);
    expect(code).toBe(EXIT.failed);
    expect(stderr).toContain(`another daemon serves the control socket ${socket}`);
    expect((await run(agent, 'list', '--socket', socket)).code).toBe(0);
  },
);

test.each(agents)('a second %s on the same state is refused', async (agent) => {
  const { args } = await serve(agent);
  const { code, stderr } = await run(agent, ...args, '--socket', path.join(dir, 'other.sock'));
  expect(code).toBe(EXIT.failed);
  expect(stderr).toContain('another agent uses this state directory (journal-failed)');
});

/** A state that only the agent itself knows, as its journal leaves it open. */
const OPEN_STATE = { 'agent-send': 'committed', 'agent-recv': 'prepared' } as const;

test.each(agents)(
  '%s refuses the state directory of the other agent, or of a later version',
  async (agent) => {
    const other = agent === 'agent-send' ? 'agent-recv' : 'agent-send';
    for (const state of [OPEN_STATE[other], 'postcopy']) {
      const at = path.join(dir, state);
      const journal = await Journal.open(at, [state]);
      await journal.append({ migration: '4f2a000000000001', state, epoch: 1, guest: 'vm1' });
      await journal.close();
      const left = fs.readFileSync(path.join(at, 'journal'));
      const places = ['--state-dir', at, '--guest-dir', dir, '--host-dir', path.join(dir, 'host')];
      const listen = agent === 'agent-recv' ? ['--listen', '127.0.0.1:0'] : [];
      const socket = ['--socket', path.join(dir, 'refused.sock')];
      const args = ['serve', ...socket, ...places, ...listen];
      const { code, stderr } = await run(agent, ...args);
      expect(code).toBe(EXIT.usage);
      expect(await run(agent, ...args, '--check-config')).toMatchObject({ code, stderr });
      expect(stderr).toMatch(
        /^agent-\w+: .*journal: migration 4f2a0+1 is in state .*\(journal-invalid\)\n$/,
      );
      expect(fs.readFileSync(path.join(at, 'journal'))).toEqual(left);
    }
  },
);

test.each(agents)('%s takes the place of one that was killed', async (agent) => {
  const { daemon, socket } = await serve(agent);
  daemon.child.kill('SIGKILL');
  await daemon.ended;
  expect(fs.existsSync(socket)).toBe(true);
  await serve(agent);
  expect((await run(agent, 'list', '--socket', socket)).code).toBe(0);
});

test('a port in use is told in a sentence, and nothing is left behind', async () => {
  const { daemon } = await serve('agent-recv');
  const port = /port (\d+)/.exec(daemon.printed())![1]!;
  const socket = path.join(dir, 'second.sock');
  const host = path.join(dir, 'host');
  const args = ['serve', '--listen', `127.0.0.1:${port}`, '--socket', socket, '--host-dir', host];
  const state = path.join(dir, 'second');
  const { code, stderr } = await run('agent-recv', ...args, '--state-dir', state);
  expect(code).toBe(EXIT.failed);
  expect(stderr).toContain(`cannot listen on 127.0.0.1 port ${port}: EADDRINUSE (listen-failed)`);
  expect(fs.existsSync(socket)).toBe(false);
});
