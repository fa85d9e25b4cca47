import http from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { ControlClient } from '../../lib/cli/client.ts';
import { until } from '../e2e/hosts.ts';
import { A_PROFILE, FakeBackend } from './fake-backend.ts';

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve() {
  const agent = new FakeBackend();
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent);
  cleanups.push(() => server.close());
  return { agent, client: new ControlClient(agent.socket, 'agent-send') };
}

test('a profile is told as it goes, and at its end', async () => {
  const { agent, client } = await serve();
  const seen: unknown[] = [];
  const taking = client.profile('vm1', { ms: 2000 }, (progress) => seen.push(progress));
  await until(() => seen.length > 0, 'progress is told');
  expect(agent.profiled?.aborted).toBe(false);
  agent.profileEnds.resolve();
  expect(await taking).toEqual(A_PROFILE);
  expect(seen).toEqual([{ elapsedMs: 100, ms: 2000, windowMs: 100, pages: 480 }]);
  expect(agent.calls).toEqual([['profile', 'vm1', 2000]]);
  expect(await client.request('GET', '/guests/vm1/profile')).toEqual(A_PROFILE);
});

test('what is wrong before it begins is an answer; what is wrong later is its last event', async () => {
  const { agent, client } = await serve();
  const wait = (guest: string, ms: number) => client.profile(guest, { ms }, () => {});
  await expect(wait('vm9', 2000)).rejects.toMatchObject({ code: 'unknown-profile' });
  await expect(wait('vm1', 999)).rejects.toMatchObject({ code: 'bad-option' });
  await expect(wait('../vm1', 2000)).rejects.toMatchObject({ code: 'unknown-guest' });
  const taking = wait('vm1', 2000);
  await until(() => agent.profiled !== undefined, 'it has begun');
  await client.request('DELETE', '/guests/vm1/profile');
  await expect(taking).rejects.toMatchObject({ code: 'cancelled' });
});

test('a client that leaves ends it', async () => {
  const { agent } = await serve();
  const options = { socketPath: agent.socket, method: 'POST', path: '/guests/vm1/profile' };
  const request = http.request(options).on('error', () => {});
  request.end(JSON.stringify({ ms: 2000 }));
  await until(() => agent.profiled !== undefined, 'it has begun');
  request.destroy();
  await until(() => agent.profiled!.aborted, 'it is ended');
  agent.profileEnds.resolve();
});
