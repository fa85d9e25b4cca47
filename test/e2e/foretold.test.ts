import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CheckView } from '../../lib/migration/check/view.ts';
import type { PastMove, WaitingForecast } from '../../lib/precopy/past-moves.ts';
import type { ForetoldRecord } from '../../lib/precopy/track-record.ts';
import { ledgerFile, readLedger } from '../../lib/report/ledger.ts';
import { Hosts, until } from './hosts.ts';

/** No move here is about its suspension. */
const GENEROUS = ['--max-suspend-time', '20s'];
const BUSY = { workload: 'hot-set', workingSet: '2MiB', rate: 2000 } as const;

let hosts: Hosts;
beforeEach(async () => {
  hosts = await Hosts.start();
});
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(hosts.source.story());
  await hosts.end();
});

const remembered = (): (PastMove | WaitingForecast)[] =>
  fs
    .readFileSync(path.join(hosts.stateDirOf('source'), 'experiences.ndjson'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ kind }) => kind !== undefined);
const foretoldIn = async (id: string) =>
  (await readLedger(ledgerFile(hosts.stateDirOf('source'), id))).filter(
    (record) => record.type === 'forecast',
  );

test('what is not known before a move is said, and is known after it', async () => {
  await hosts.boot({ ...BUSY, name: 'vm1' });
  await hosts.boot({ ...BUSY, name: 'vm2' });
  const first = await hosts.run(['migrate', 'vm1', hosts.target, ...GENEROUS]);
  expect(first.code, first.stderr).toBe(0);
  expect(first.stdout).toMatch(
    /^forecast before the move: not known: how fast the link to .* is was never measured\n {2}\(no check and no move went there yet; nobody has looked at how the guest dirties its memory/,
  );
  const second = await hosts.run(['migrate', 'vm2', hosts.target, ...GENEROUS]);
  expect(second.code, second.stderr).toBe(0);
  expect(second.stdout).toMatch(
    /^forecast before the move: not known: it is not known how the guest dirties its memory\n {2}\(link [\d.]+ .iB\/s as in the last move there; /,
  );
  const [one, two] = remembered() as PastMove[];
  expect(one).toMatchObject({ kind: 'move', guest: 'vm1', moved: true, givenUp: false });
  expect(one!.totalMs).toBeGreaterThan(one!.setupMs);
  expect(one!.seen!.workingSet.length).toBeGreaterThan(0);
  expect(one!.foretold.map(({ by, verdict }) => `${by} ${verdict}`)).toEqual(['migrate unknown']);
  expect(two).toMatchObject({ guest: 'vm2', moved: true });
});

test('a check foretells the move that follows, over a restart; what came is kept beside it', async () => {
  for (const [i, name] of ['vm1', 'vm2', 'vm3', 'vm4'].entries()) {
    await hosts.boot({ ...BUSY, name });
    expect((await hosts.run(['profile', name, '--for', '1s'])).code).toBe(0);
    const checked = await hosts.run(['check', name, hosts.target, '--json', ...GENEROUS]);
    const { forecast }: CheckView = JSON.parse(checked.stdout);
    expect(forecast).toMatchObject({ verdict: 'yes' });
    if (i === 0) {
      await hosts.send.end();
      await hosts.startSend();
    }
    const { id, foretold, outcome } = await hosts.migrateGuest(name, ...GENEROUS);
    expect(outcome).toBe('completed');
    expect(foretold).toMatchObject({ by: 'check', verdict: 'yes', totalMs: forecast!.totalMs });
    const recorded = await foretoldIn(id);
    expect(recorded.map(({ by }) => by)).toEqual(['migrate', 'check']);
    const move = remembered().at(-1) as PastMove;
    expect(move.foretold.map(({ by }) => by)).toEqual(['migrate', 'check']);
    expect(move.foretold[1]!.totalMs).toEqual(forecast!.totalMs);
    // From the fourth on the forecast is one that three moves have taught.
    const { totalMs, unlearned } = move.foretold[1]!;
    if (i < 3) expect(totalMs!.expected).toBeCloseTo(unlearned.totalMs!);
    else expect(totalMs!.expected).not.toBeCloseTo(unlearned.totalMs!);
  }
  const asked = await hosts.run(['calibration', '--json']);
  const { foretold }: { foretold: ForetoldRecord[] } = JSON.parse(asked.stdout);
  expect(foretold).toHaveLength(1);
  expect(foretold[0]!.moved).toBeGreaterThanOrEqual(4);
  expect(foretold[0]!.total.medianError).toBeGreaterThanOrEqual(0);
  expect(foretold[0]!.suspension.inside).toBeGreaterThanOrEqual(0);
});

test('the forecast of a check is for the same move only, and once', async () => {
  await hosts.boot({ ...BUSY, name: 'vm1' });
  expect((await hosts.run(['profile', 'vm1', '--for', '1s'])).code).toBe(0);
  await hosts.run(['check', 'vm1', hosts.target, ...GENEROUS]);
  const id = await hosts.begin('--hold', ...GENEROUS);
  expect((await foretoldIn(id)).map(({ by }) => by)).toEqual(['migrate']); // a hold is another move
  await until(async () => (await hosts.view(id)).hold?.ready === true, 'the guest is held');
  await hosts.source.tell(id, 'cancel');
  await hosts.ended(id);
  await hosts.destination.ended(id, 'recv');
  const { foretold } = await hosts.migrate(...GENEROUS);
  expect(foretold!.by).toBe('migrate');
});

test('a move that would not fit says so first, and the policy decides', async () => {
  await hosts.boot({ workload: 'hot-set', workingSet: '32MiB', rate: 200_000, name: 'vm1' });
  expect((await hosts.run(['profile', 'vm1', '--for', '2s'])).code).toBe(0);
  await hosts.run(['check', 'vm1', hosts.target, '--bandwidth', '4MB/s']);
  const { stdout, code } = await hosts.run([
    ...['migrate', 'vm1', hosts.target, '--bandwidth', '4MB/s', '--timeout', '5s'],
  ]);
  expect(code).toBe(3);
  expect(stdout).toMatch(
    /^forecast before the move: it would be given up: .* fits --max-suspend-time 300ms: no/,
  );
  expect((remembered().at(-1) as PastMove).givenUp).toBe(true);
});

describe('a move that is refused', () => {
  test('by the destination hears everything that is in its way there', async () => {
    await hosts.recv.end();
    const limited = await Hosts.start({ recv: ['--max-migrations', '1'] });
    await hosts.end();
    hosts = limited;
    await hosts.boot({ name: 'vm1' });
    await hosts.boot({ name: 'vm2' });
    await hosts.destination.boot({ name: 'vm2' });
    const held = await hosts.begin('--hold', ...GENEROUS);
    await until(async () => (await hosts.view(held)).phase === 'precopy', 'vm1 is taken');
    const refused = await hosts.migrateGuest('vm2', ...GENEROUS);
    expect(refused).toMatchObject({ exit: 1, code: 'too-many' });
    expect(refused.message).toMatch(
      /takes 1 migrations at once .*; also in the way: name: .*vm2.* \(guest-exists\)$/,
    );
    await hosts.source.tell(held, 'cancel');
    await hosts.destination.ended(held, 'recv');
    // With one thing out of the way the other one is met first, and alone.
    const again = await hosts.migrateGuest('vm2', ...GENEROUS);
    expect(again).toMatchObject({ exit: 1, code: 'guest-exists' });
    expect(again.message).not.toMatch(/also/);
    await hosts.mustRunAt('source', 'vm2');
  });

  test('by its own host hears what is in its way on the other one, too, and nothing is begun', async () => {
    await hosts.boot({ name: 'vm1' });
    const held = await hosts.begin('--hold', ...GENEROUS);
    const busy = await hosts.run(['migrate', 'vm1', '127.0.0.1:1']);
    expect(busy.code).toBe(1);
    expect(busy.stderr).toMatch(
      /is being migrated already.*; also in the way: destination peer: .*\(connect-refused\).*\(guest-busy\)/,
    );
    await hosts.source.tell(held, 'cancel');
    await hosts.ended(held);
    const unknown = await hosts.run(['migrate', 'nobody', '127.0.0.1:1']);
    expect(unknown.stderr).toMatch(/nobody.*\(unknown-guest\)/);
    expect(unknown.stderr).not.toMatch(/also/);
    expect(await hosts.source.list('send')).toHaveLength(1);
  });
});

test('the ledger of a second move has the suspension of the first', async () => {
  await hosts.boot({ ...BUSY, name: 'vm1' });
  const first = await hosts.migrate(...GENEROUS);
  expect(first.outcome).toBe('completed');
  await hosts.quitGuest('destination');
  await hosts.boot({ ...BUSY, name: 'vm1' });
  const { id, outcome } = await hosts.migrate(...GENEROUS);
  expect(outcome).toBe('completed');
  const records = await readLedger(ledgerFile(hosts.stateDirOf('source'), id));
  const [earlier, ...more] = records.filter((record) => record.type === 'earlier');
  expect(more).toEqual([]);
  const { agentMs, guestMs } = first.suspension!;
  expect(earlier!.suspensions).toMatchObject([
    { ms: guestMs ?? agentMs, limitMs: 20_000, moved: true },
  ]);
  const report = await hosts.run(['report', id]);
  const page = fs.readFileSync(report.stdout.trim(), 'utf8');
  expect(page).toContain('This move among the last 2 of vm1');
});

test('a hook that cannot be started refuses a move before anything begins', async () => {
  await hosts.end();
  const dir = fs.mkdtempSync('/tmp/godwit-definitions-');
  try {
    const definition = {
      ...{ hypervisor: 'qemu', qmp: path.join(dir, 'qmp') },
      hooks: { preSuspend: { command: [path.join(dir, 'nothing')] } },
    };
    fs.writeFileSync(path.join(dir, 'vm9.json'), JSON.stringify(definition), { mode: 0o600 });
    hosts = await Hosts.start({ send: ['--definitions', dir] });
    const refused = await hosts.run(['migrate', 'vm9', '127.0.0.1:1']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /hook preSuspend cannot be started: .*; also in the way: .*destination peer: .*\(connect-refused\).*\(hook-failed\)/,
    );
    expect(await hosts.source.list('send')).toEqual([]);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
