import fs from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { localUser } from '../../lib/cli/user.ts';
import { GodwitError } from '../../lib/errors.ts';
import { EXIT } from '../../lib/exit.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import type { Outcome } from '../../lib/report/records.ts';
import { aView, ended, FakeBackend } from '../api/fake-backend.ts';
import { busyGuest } from '../report/fixtures.ts';
import { type Running, run, start } from './run.ts';

/** `agent-send migrate` as a process, against a daemon of which only the inside is not real. */

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(view: MigrationView = aView()) {
  const agent = new FakeBackend(view);
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent);
  cleanups.push(() => server.close());
  return { agent, server };
}

function writeLedger(agent: FakeBackend): void {
  const lines = busyGuest().map((record) => `${JSON.stringify(record)}\n`);
  fs.writeFileSync(agent.ledgerFile(aView().id), lines.join(''));
}

function migrate({ socket }: FakeBackend, ...args: string[]): Running {
  const running = start('agent-send', ['migrate', 'vm1', 'hostb', ...args, '--socket', socket]);
  cleanups.push(() => {
    if (running.child.exitCode === null) running.child.kill('SIGKILL');
  });
  return running;
}

test('a time of day is the next one by the clock of this host', async () => {
  const { agent } = await serve();
  const askedMs = Date.now();
  await migrate(agent, '--at', '02:00', '--detach').ended;
  const [[, request]] = agent.calls as [[string, { limits: { hold: string } }]];
  const at = new Date(request.limits.hold);
  expect([at.getHours(), at.getMinutes(), at.getSeconds()]).toEqual([2, 0, 0]);
  expect(at.getTime()).toBeGreaterThan(askedMs);
  expect(at.getTime() - askedMs).toBeLessThan(26 * 3_600_000);
});

test('what was typed is what the daemon is asked for', async () => {
  const { agent } = await serve();
  const module = ['--policy-module', 'policies/mine.ts'];
  const many = ['--max-suspend-time', '1.5s', '--timeout', '2m', '--prefer', 'completion'];
  const more = [
    '--pause-below',
    '50ms',
    '--abort-above',
    '2s',
    '--bandwidth',
    '1gbit',
    '--suspend-bandwidth',
    '2gbit',
  ];
  const last = ['--lanes', '3', '--no-compression', '--verify', '--detach'];
  const { ended } = migrate(agent, ...module, ...many, ...more, ...last);
  expect(await ended).toEqual({ code: EXIT.completed, stdout: `${aView().id}\n`, stderr: '' });
  expect(agent.calls).toEqual([
    [
      'start',
      {
        guest: 'vm1',
        host: 'hostb',
        port: 7070,
        policy: 'custom',
        policyModule: `${process.cwd()}/policies/mine.ts`,
        limits: {
          maxSuspendMs: 1500,
          timeoutMs: 120_000,
          prefer: 'completion',
          pauseBelowMs: 50,
          abortAboveMs: 2000,
        },
        bandwidth: 125e6,
        suspendBandwidth: 250e6,
        lanes: 3,
        compression: 'off',
        verify: true,
        by: localUser(),
      },
    ],
  ]);
});

test('XML travels as text, and a name that no guest may have does not travel at all', async () => {
  const { agent } = await serve();
  const file = `${agent.socket}.xml`;
  fs.writeFileSync(file, '<domain/>');
  const domain = ['--dest-xml', file, '--persistent', '--undefine-source'];
  await migrate(agent, ...domain, '--dest-name', 'web2', '--detach').ended;
  expect(agent.calls[0]![1]).toMatchObject({
    ...{ destXml: '<domain/>', destName: 'web2', persistent: true, undefineSource: true },
  });
  for (const wrong of [
    ['--dest-name', '../x'],
    ['--dest-xml', `${file}.none`],
    ['--dest-xml', '/dev/null'],
  ]) {
    const { code, stderr } = await migrate(agent, ...wrong).ended;
    expect([code, stderr]).toEqual([EXIT.usage, expect.stringContaining(wrong[0]!)]);
  }
  expect(agent.calls).toHaveLength(1);
});

test.each([
  ['hostb:7171', 'hostb', 7171],
  ['192.0.2.7', '192.0.2.7', 7070],
  ['[2001:db8::7]', '2001:db8::7', 7070],
  ['[fe80::7%eth0]:7171', 'fe80::7%eth0', 7171],
])('%s is host %s, port %i', async (target, host, port) => {
  const { agent } = await serve();
  const args = ['migrate', 'vm1', target, '--timeout', 'none', '--detach'];
  expect((await run('agent-send', ...args, '--socket', agent.socket)).code).toBe(0);
  expect(agent.calls[0]![1]).toMatchObject({ host, port, limits: {} });
});

test('plain lines while it runs, then the summary and how to get the report', async () => {
  const { agent } = await serve(aView({ round: 1 }));
  writeLedger(agent);
  const running = migrate(agent);
  await running.saw('round 1  50 %');
  agent.becomes(aView({ round: 2, elapsedMs: 3000 }));
  await running.saw('round 2  50 %');
  agent.becomes(ended('completed', { elapsedMs: 3100 }));
  const { code, stdout, stderr } = await running.ended;
  expect([code, stderr]).toEqual([EXIT.completed, '']);
  expect(stdout).not.toContain('\x1b');
  const [first, second, last, empty, ...summary] = stdout.split('\n');
  expect([first, second, last, empty]).toEqual([
    expect.stringContaining('round 1'),
    expect.stringContaining('round 2'),
    expect.stringContaining('completed'),
    '',
  ]);
  expect(summary[0]).toMatch(/^ {2}outcome +completed$/);
  expect(stdout).toMatch(/suspension +promised ≤ 300 ms/);
  expect(stdout).toContain(`report: agent-send report ${aView().id} --socket ${agent.socket}\n`);
});

test('--json: a view a line, the last one with the result', async () => {
  const { agent } = await serve();
  const running = migrate(agent, '--json');
  await running.saw('"round":2');
  agent.becomes(ended('aborted', { code: 'suspension-limit', message: 'missed by 40 ms' }));
  const { code, stdout, stderr } = await running.ended;
  expect([code, stderr]).toEqual([EXIT['aborted-by-policy'], '']);
  const views = stdout.trimEnd().split('\n');
  expect(views.map((line) => JSON.parse(line).phase)).toEqual(['precopy', 'ended']);
  expect(JSON.parse(views.at(-1)!)).toMatchObject({
    outcome: 'aborted',
    code: 'suspension-limit',
    message: 'missed by 40 ms',
  });
});

const CODES: Record<Outcome, number> = {
  completed: 0,
  failed: 1,
  aborted: 3,
  cancelled: 4,
  'needs-resolve': 5,
};

test.each(Object.entries(CODES))(
  'a migration that ends %s exits with %i',
  async (outcome, code) => {
    const { agent } = await serve(ended(outcome as Outcome, { code: 'x', message: 'because' }));
    const got = await migrate(agent).ended;
    expect(got.code).toBe(code);
    if (outcome === 'needs-resolve') {
      expect(got.stderr).toContain('If the other host is gone for good: agent-send resolve ');
      return;
    }
    // There is no ledger here: the outcome is told all the same.
    expect(got.stderr).toContain(`${outcome}: because (x)\nno summary: `);
  },
);

describe('Ctrl-C', () => {
  test('asks the daemon to cancel', async () => {
    const { agent } = await serve();
    const running = migrate(agent);
    await running.saw('round 2');
    running.child.kill('SIGINT');
    const { code, stderr } = await running.ended;
    expect(code).toBe(EXIT.cancelled);
    expect(stderr).toContain('cancelling; Ctrl-C again leaves it to the daemon');
    expect(agent.calls.at(-1)).toEqual(['cancel', aView().id]);
  });

  test('a second time leaves it to the daemon and says where to look', async () => {
    const { agent } = await serve();
    agent.cancel = () => aView(); // it takes its time
    const running = migrate(agent);
    await running.saw('round 2');
    running.child.kill('SIGINT');
    await running.saw('cancelling');
    running.child.kill('SIGINT');
    const { code, stderr } = await running.ended;
    expect(code).toBe(EXIT.failed);
    expect(stderr).toContain(`migration ${aView().id} goes on; look at it with: agent-send show`);
  });

  test('too late: says so and shows how it ends', async () => {
    const { agent } = await serve();
    agent.cancel = () => {
      throw new GodwitError('too-late', 'the guest has been handed over to the destination');
    };
    const running = migrate(agent);
    await running.saw('round 2');
    running.child.kill('SIGINT');
    await running.saw('handed over');
    agent.becomes(ended('completed'));
    expect((await running.ended).code).toBe(EXIT.completed);
  });
});

test('a daemon that goes away in the middle is told, with its own exit code', async () => {
  const { agent, server } = await serve();
  const running = migrate(agent);
  await running.saw('round 2');
  await server.close();
  const { code, stderr } = await running.ended;
  expect(code).toBe(EXIT['no-daemon']);
  expect(stderr).toContain(`the daemon went away in the middle of migration ${aView().id}`);
});

test('what the daemon refuses is printed as it said it', async () => {
  const { agent } = await serve();
  agent.refuseStart = new GodwitError('guest-busy', 'guest vm1 is being migrated already');
  const plain = await migrate(agent).ended;
  expect(plain.code).toBe(EXIT.failed);
  expect(plain.stderr).toBe('agent-send: guest vm1 is being migrated already (guest-busy)\n');
  const json = await migrate(agent, '--json').ended;
  expect(JSON.parse(json.stderr).error.code).toBe('guest-busy');
});
