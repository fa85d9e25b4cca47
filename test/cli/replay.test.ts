import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { EXIT } from '../../lib/exit.ts';
import { FakeBackend } from '../api/fake-backend.ts';
import { type Scenario, writes } from '../precopy/simulator.ts';
import { simulated } from '../report/simulated-ledger.ts';
import { run } from './run.ts';

/** `agent-send replay` as a process, with ledgers of simulated moves. */

const BUSY: Scenario = { guest: writes(400_000, 100_000) };
let agent: FakeBackend;
let server: ControlServer;

beforeEach(async () => {
  agent = new FakeBackend();
  server = await ControlServer.open(agent.socket, agent);
});

afterEach(async () => {
  await server.close();
  agent.remove();
});

/** The only migration of the daemon. */
async function moved(scenario: Scenario): Promise<string> {
  const file = agent.ledgerFile('4f2a');
  fs.writeFileSync(file, (await simulated(scenario)).text);
  return file;
}

const replay = (...args: string[]) => run('agent-send', 'replay', ...args);

test('of an aborted move: as it was, with a limit that is enough, and with the smallest', async () => {
  await moved(BUSY);
  const asked = (...args: string[]) => replay('4f2a', ...args, '--socket', agent.socket);
  const as = await asked();
  expect([as.code, as.stderr]).toEqual([EXIT['aborted-by-policy'], '']);
  expect(as.stdout).toMatchInlineSnapshot(`
    "  replay      under its own policy and limits the move would have been given up after round 14, 14.44 s after the start, forecast 1.02 s (962 ms to 1.07 s)
      why         nothing better in 13.09 s (13 rounds); the best forecast seen, 1.02 s, is above the limit of 300 ms; a limit of 1097 ms would have been enough
      smallest    with --max-suspend-time 1038ms the guest would have been suspended after round 4, 4.38 s after the start, forecast 1.02 s (962 ms to 1.07 s)
      recorded    contract policy, suspend at most 300 ms, prefer workload: given up after round 14, 14.44 s after the start, forecast 1.02 s (962 ms to 1.07 s); aborted by policy
      note        what the guest would have done after the recorded decision is not known: a replay ends there or earlier
    "
  `);
  const larger = await asked('--max-suspend-time', '1.5s');
  expect([larger.code, larger.stderr]).toEqual([EXIT.completed, '']);
  expect(larger.stdout).toMatchInlineSnapshot(`
    "  replay      with --max-suspend-time 1.5s the guest would have been suspended after round 2, 2.36 s after the start, forecast 1.02 s (963 ms to 1.08 s)
      why         forecast 1.02 s (963 ms to 1.08 s) is within the 1.50 s allowed
      smallest    with --max-suspend-time 1038ms the guest would have been suspended after round 4, 4.38 s after the start, forecast 1.02 s (962 ms to 1.07 s)
      recorded    contract policy, suspend at most 300 ms, prefer workload: given up after round 14, 14.44 s after the start, forecast 1.02 s (962 ms to 1.07 s); aborted by policy
      note        what the guest would have done after the recorded decision is not known: a replay ends there or earlier
    "
  `);
  const [, smallest] = /smallest +with --max-suspend-time (\d+ms)/.exec(larger.stdout)!;
  expect((await asked('--max-suspend-time', smallest!)).code).toBe(EXIT.completed);
  const { code, stdout } = await asked('--max-suspend-time', '1000ms', '--json');
  expect(code).toBe(EXIT.failed);
  expect(JSON.parse(stdout)).toMatchObject({
    id: '4f2a000000000001',
    guest: 'vm1',
    policy: 'contract',
    outcome: 'undecided',
    last: { limits: { maxSuspendMs: 1000 }, verdict: { action: 'continue' } },
    smallest: { maxSuspendMs: Number.parseInt(smallest!, 10), stats: { when: 'before-round' } },
    recorded: {
      policy: 'contract',
      outcome: 'aborted',
      decision: { verdict: { action: 'abort' } },
    },
  });
  expect(stdout).not.toContain('"history"');
});

test('without a daemon, under another policy', async () => {
  const file = await moved(BUSY);
  const { code, stdout } = await replay('--ledger', file, '--policy', 'xen', '--max-iters', '3');
  expect(code).toBe(EXIT.completed);
  expect(stdout).toMatch(/^ {2}replay +with --max-iters 3 --policy xen the guest would have been/);
  expect(stdout).toContain('  why         3 rounds of at most 3 are done\n');
  expect(stdout).not.toContain('smallest');
});

test('what cannot be replayed is told in a sentence', async () => {
  const file = await moved({ ...BUSY, policy: 'custom', limits: { pauseBelowMs: 200 }, ...EARLY });
  const module = path.join(agent.dir, 'empty.ts');
  fs.writeFileSync(module, 'export {};');
  const bad = path.join(agent.dir, 'bad.ndjson');
  fs.writeFileSync(
    bad,
    fs.readFileSync(file, 'utf8').replace(/"elapsedMs":\d+/, '"elapsedMs":null'),
  );
  const none = path.join(agent.dir, 'none.ndjson');
  for (const [args, code, text] of [
    [
      ['--ledger', file],
      EXIT.usage,
      'the custom policy needs --policy-module FILE.ts (bad-option)',
    ],
    [['--ledger', file, '--policy-module', module], EXIT.usage, 'exports no function named policy'],
    [['--ledger', file, '--policy', 'best'], EXIT.usage, 'is contract, xen or custom, not "best"'],
    [
      ['--ledger', file, '--policy', 'xen', '--prefer', 'workload'],
      EXIT.usage,
      'no meaning for the xen',
    ],
    [
      ['--ledger', file, '--policy', 'contract', '--max-suspend-time', '100ms'],
      EXIT.usage,
      '--pause-below is 200 ms, but --max-suspend-time allows only 1 ms to 100 ms (bad-option)',
    ],
    [['--ledger', bad], EXIT.failed, 'no valid "stats.elapsedMs" (ledger-invalid)'],
    [['--ledger', none], EXIT.failed, '(unknown-migration)'],
    [['ffff', '--socket', agent.socket], EXIT.failed, '(unknown-migration)'],
  ] as const) {
    const got = await replay(...args);
    expect([got.code, got.stdout, got.stderr]).toEqual([code, '', expect.stringContaining(text)]);
    expect(got.stderr.trimEnd().split('\n')).toHaveLength(1);
  }
});

const EARLY: Scenario = {
  ...BUSY,
  consult: async ({ iteration }) => ({
    verdict: { action: iteration < 2 ? 'continue' : 'abort', reason: 'early' },
  }),
};
