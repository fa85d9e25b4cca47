import { afterEach, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { EXIT } from '../../lib/exit.ts';
import { profileText } from '../../lib/report/profile-text.ts';
import { A_PROFILE, FakeBackend } from '../api/fake-backend.ts';
import { type Running, start } from './run.ts';

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve() {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent);
  cleanups.push(() => server.close());
  return agent;
}

function profile({ socket }: FakeBackend, ...args: string[]): Running {
  const running = start('agent-send', ['profile', ...args, '--socket', socket]);
  cleanups.push(() => {
    if (running.child.exitCode === null) running.child.kill('SIGKILL');
  });
  return running;
}

const PROGRESS = '100 ms of 10.00 s  480 pages dirtied within 100 ms\n';

test('shows how it goes, then a table; 10 s unless something else is said', async () => {
  const agent = await serve();
  const running = profile(agent, 'vm1');
  await running.saw(PROGRESS);
  agent.profileEnds.resolve();
  const stdout = profileText(A_PROFILE, false);
  expect(await running.ended).toEqual({ code: EXIT.completed, stdout, stderr: PROGRESS });
  expect(agent.calls).toEqual([['profile', 'vm1', 10_000]]);
});

test('--json gives the profile alone, taken or kept', async () => {
  const agent = await serve();
  agent.profileEnds.resolve();
  const stdout = `${JSON.stringify(A_PROFILE)}\n`;
  const all = { code: EXIT.completed, stdout, stderr: '' };
  expect(await profile(agent, 'vm1', '--for', '90s', '--json').ended).toEqual(all);
  expect(await profile(agent, 'vm1', '--last', '--json').ended).toEqual(all);
  expect(agent.calls).toEqual([['profile', 'vm1', 90_000]]);
});

test('--rehearse asks for a rehearsal, and --bandwidth caps it', async () => {
  const agent = await serve();
  agent.profileEnds.resolve();
  const rehearse = ['vm1', '--rehearse', '--json'];
  expect((await profile(agent, ...rehearse).ended).code).toBe(EXIT.completed);
  const capped = [...rehearse, '--bandwidth', '50MB/s'];
  expect((await profile(agent, ...capped).ended).code).toBe(EXIT.completed);
  expect(agent.calls).toEqual([
    ['profile', 'vm1', 10_000, {}],
    ['profile', 'vm1', 10_000, { bandwidth: 50e6 }],
  ]);
});

test('Ctrl-C ends it, and nothing is shown', async () => {
  const agent = await serve();
  const running = profile(agent, 'vm1', '--for', '10m');
  await running.saw('pages dirtied within');
  running.child.kill('SIGINT');
  const { code, stdout, stderr } = await running.ended;
  expect([code, stdout]).toEqual([EXIT.cancelled, '']);
  expect(stderr).toContain(
    'agent-send: the profile of guest vm1 was ended; nothing of it is kept\n',
  );
  expect(agent.calls).toEqual([
    ['profile', 'vm1', 600_000],
    ['endProfile', 'vm1'],
  ]);
});

test('what cannot be is refused before anything begins', async () => {
  const agent = await serve();
  for (const args of [
    ['--for', '10'],
    ['--for', '999ms'],
    ['--for', '11m'],
    ['--for', '2s', '--last'],
    ['--rehearse', '--last'],
    ['--bandwidth', '50MB/s'],
  ])
    expect((await profile(agent, 'vm1', ...args).ended).code).toBe(EXIT.usage);
  expect(agent.calls).toEqual([]);
  const { code, stderr } = await profile(agent, 'vm9', '--last').ended;
  expect([code, stderr]).toEqual([EXIT.failed, expect.stringContaining('(unknown-profile)')]);
});
