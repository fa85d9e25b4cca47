import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { EXIT } from '../../lib/exit.ts';
import { AN_EVACUATION, FakeBackend } from '../api/fake-backend.ts';
import { run } from './run.ts';

let agent: FakeBackend;
let server: ControlServer;

beforeAll(async () => {
  agent = new FakeBackend();
  server = await ControlServer.open(agent.socket, agent);
});
afterAll(async () => {
  await server.close();
  agent.remove();
});

const evacuate = (...args: string[]) =>
  run('agent-send', 'evacuate', ...args, '--socket', agent.socket);

test('asks for what was typed', async () => {
  const typed = [
    ...['hostb,[::1]:7071', '--guests', 'vm1,vm2', '--parallel', '3', '--bandwidth', '30MB/s'],
    ...['--order', 'steadiest', '--retry-up-to', '2s', '--max-suspend-time', '200ms', '--verify'],
  ];
  expect(await evacuate(...typed, '--detach')).toMatchObject({
    ...{ code: EXIT.completed, stdout: `${AN_EVACUATION.id}\n`, stderr: '' },
  });
  expect(agent.calls.splice(0)).toEqual([
    [
      'evacuate',
      {
        ...{ destinations: ['hostb:7070', '[::1]:7071'], guests: ['vm1', 'vm2'], parallel: 3 },
        ...{ bandwidth: 30e6, order: 'steadiest', retryUpToMs: 2000, by: expect.any(String) },
        move: {
          ...{ policy: 'contract', limits: { maxSuspendMs: 200 }, compression: 'auto' },
          verify: true,
        },
      },
    ],
  ]);
});

test('a dry run asks for a plan, and exits by whether every guest has a place', async () => {
  const { code, stdout } = await evacuate('hostb', '--dry-run');
  expect(code).toBe(EXIT.failed);
  expect(stdout).toContain('vm2    -       nowhere');
  expect(agent.calls.splice(0)).toEqual([['plan', expect.objectContaining({ parallel: 2 })]]);
});

test('without a host it takes up what there is: how it stands, its end, and its report', async () => {
  agent.evacuation = AN_EVACUATION;
  expect((await evacuate('--status')).stdout).toContain('1 of 3 guests moved');
  const { leaving } = AN_EVACUATION;
  const end = { at: AN_EVACUATION.startedAt, outcome: 'aborted' } as const;
  const over = { leaving: leaving.map((one) => ({ end, ...one })), moving: [] };
  agent.evacuation = { ...AN_EVACUATION, ...over, endedAt: end.at, outcome: 'aborted' };
  const { code, stdout } = await evacuate();
  expect(code).toBe(EXIT['aborted-by-policy']);
  expect(stdout).toContain('report: agent-send report --evacuation');
  expect((await evacuate('--json')).stdout.trim()).toBe(JSON.stringify(agent.evacuation));
  const args = ['report', '--evacuation', '--output', '-', '--socket', agent.socket];
  expect((await run('agent-send', ...args)).stdout).toMatch(/^<!doctype html>.*hostb:7070/s);
  expect((await evacuate('--cancel', '--status')).code).toBe(EXIT.completed);
  expect(agent.calls.splice(0)).toEqual([['cancel evacuation']]);
});

test('says what is wrong before anything is asked', async () => {
  for (const [args, said] of [
    [['hostb,hostb'], 'each once'],
    [['hostb', '--parallel', '65'], '1 to 64'],
    [['hostb', '--order', 'largest'], 'smallest, steadiest, name'],
    [['hostb', '--status'], 'go without HOST'],
    [['--parallel', '3'], 'name its HOST'],
    [['hostb', '--bandwidth', '3MB/s', '--parallel', '4'], 'at least 1000000 for each'],
  ] as const) {
    const { code, stderr } = await evacuate(...args);
    expect([args, code, stderr]).toEqual([args, EXIT.usage, expect.stringContaining(said)]);
  }
  expect(agent.calls).toEqual([]);
  agent.evacuation = undefined;
  expect((await evacuate()).stderr).toContain('there is no evacuation');
});
