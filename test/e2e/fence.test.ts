import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Dilemma } from '../../lib/ownership/decision.ts';
import { FakeTools, inHistory } from '../cluster/fake-tools.ts';
import type { Role } from './host.ts';
import { Hosts, until } from './hosts.ts';

/* A host that the cluster has fenced: what that answers by itself, and what it only makes known. */

const LIMITS = ['--peer-timeout', '1s', '--reconnect-timeout', '1s'];
const GENEROUS = ['--max-suspend-time', '20s'];

let tools: FakeTools;
let hosts: Hosts;
beforeEach(() => {
  tools = new FakeTools();
});
afterEach(async () => {
  await hosts.end();
  tools.end();
});

/** The source calls the destination n2, and the destination the source n1. */
async function prepare(faults: { send?: string; recv?: string }): Promise<string> {
  for (const node of ['n1', 'n2']) tools.history(node); // never fenced
  hosts = await Hosts.start({
    send: [...LIMITS, '--cluster-node', 'n2=127.0.0.1'],
    recv: [...LIMITS, '--cluster-node', 'n1=127.0.0.1'],
    faults,
  });
  await hosts.boot({ memory: '32MiB' });
  return hosts.begin(...GENEROUS);
}

/** From the next second on the history has it. */
async function fence(node: string): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 1100));
  tools.history(node, { completed: inHistory(Date.now()) });
}

async function dilemma(role: Role, id: string): Promise<Dilemma> {
  const host = role === 'send' ? hosts.source : hosts.destination;
  return host.client(role).request<Dilemma>('GET', `/migrations/${id}/resolve`);
}

/** Two looks have found it, and said so. */
function told(role: Role, text: string): Promise<void> {
  const agent = role === 'send' ? hosts.send : hosts.recv;
  return until(() => agent.log.includes(text), `agent-${role} says "${text}"`);
}

test('the source of a guest that runs here was fenced: it is told when it is back', async () => {
  const id = await prepare({ send: 'kill@source.before.journal-released' });
  tools.cib([{ id: 'web1', guest: 'vm1', meta: { maintenance: 'true', 'godwit-migration': id } }]);
  await until(() => !hosts.send.alive, 'the source is gone');
  await hosts.mustRunAt('destination');
  await hosts.quitGuest('source'); // with its host
  tools.history('n1', { completed: inHistory(Date.now() - 3_600_000) }); // of another boot of it
  await new Promise((resolve) => setTimeout(resolve, 11_000)); // two looks
  expect(tools.calls).toEqual([]);
  await fence('n1');
  await until(() => tools.calls.length === 3, 'the resource is handed back');
  expect(tools.calls[0]).toBe('--refresh -r web1');
  const fenced = /n1 was fenced at .* \(by n9\)/;
  await until(() => fenced.test(hosts.recv.log), 'agent-recv says why');
  expect(await dilemma('recv', id)).not.toHaveProperty('fenced');
  await hosts.startSend();
  const ended = async () =>
    [...(await hosts.source.list('send')), ...(await hosts.destination.list('recv'))].every(
      ({ phase }) => phase === 'ended',
    );
  await until(ended, 'both have closed it');
  await hosts.mustRunAt('destination');
  expect(hosts.recv.log).not.toContain('decides');
});

test('a copy that stands is not made to run by a fence alone, and old fences say nothing', async () => {
  const id = await prepare({ recv: 'kill@destination.before.journal-running' });
  tools.history('n2', { completed: inHistory(Date.now() - 60_000) });
  await until(() => !hosts.recv.alive, 'the destination is gone');
  await until(async () => (await hosts.view(id)).outcome === 'needs-resolve', 'it is open');
  await new Promise((resolve) => setTimeout(resolve, 11_000)); // two looks at the old one
  expect(await dilemma('send', id)).not.toHaveProperty('fenced');
  await fence('n2');
  await told('send', 'n2 was fenced at');
  await until(async () => (await dilemma('send', id)).fenced !== undefined, 'it is told');
  expect((await dilemma('send', id)).fenced).toMatchObject({ answer: 'keep-here' });
  expect((await hosts.run(['resolve', id])).stdout).toMatch(/n2 was fenced .* --keep-here is safe/);
  expect(await hosts.view(id)).toMatchObject({ ownership: 'committed' });
  expect((await hosts.run(['resolve', id, '--keep-here'])).code).toBe(0);
  await hosts.mustRunAt('source');
  await hosts.quitGuest('destination').catch(() => {}); // it went with its host
});
