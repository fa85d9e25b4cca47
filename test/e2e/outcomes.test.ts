import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Hosts, until } from './hosts.ts';

let hosts: Hosts;
beforeEach(async () => {
  hosts = await Hosts.start();
});
afterEach(() => hosts.end());

const HOT = { workload: 'hot-set', rate: 3000, workingSet: '16MiB' } as const;
/** Writes more than a capped stream can carry. */
const BUSY = { workload: 'never-converging', rate: 20_000, workingSet: '48MiB' } as const;

test('the contract moves a busy guest within its promise', async () => {
  await hosts.boot(HOT);
  const view = await hosts.migrate('--max-suspend-time', '20s');
  expect(view).toMatchObject({ exit: 0, outcome: 'completed', phase: 'ended' });
  expect(view.suspension!.guestMs).toBeGreaterThan(0); // the guest has timed it
  await hosts.mustRunAt('destination');
  await hosts.mustBeGoneFrom('source');
});

test('--verify reads all destination memory again and finds it right', async () => {
  await hosts.boot(HOT);
  const view = await hosts.migrate('--verify', '--max-suspend-time', '20s');
  expect(view).toMatchObject({ exit: 0, outcome: 'completed' });
  await hosts.mustRunAt('destination');
});

test('the xen policy stops when its iterations are used up', async () => {
  await hosts.boot(BUSY);
  const view = await hosts.migrate(
    '--policy',
    'xen',
    '--max-iters',
    '2',
    '--bandwidth',
    '40MiB/s',
    '--suspend-bandwidth',
    '40MiB/s',
  );
  expect(view).toMatchObject({ exit: 0, outcome: 'completed' });
  // Two iterations while the guest runs, and the last pass.
  expect(view.round).toBe(3);
  await hosts.mustRunAt('destination');
});

test('the xen policy stops below its remaining pages', async () => {
  await hosts.boot({ workload: 'idle' });
  const view = await hosts.migrate('--policy', 'xen', '--min-remaining', '5000');
  expect(view).toMatchObject({ exit: 0, outcome: 'completed', round: 2 });
});

test('a guest that cannot converge is left alone, and moves when finishing matters more', async () => {
  await hosts.boot(BUSY);
  const slow = [
    '--bandwidth',
    '20MiB/s',
    '--suspend-bandwidth',
    '20MiB/s',
    '--no-compression',
    '--max-suspend-time',
    '100ms',
  ];
  const aborted = await hosts.migrate(...slow, '--timeout', '8s');
  expect(aborted).toMatchObject({ exit: 3, outcome: 'aborted', code: 'policy-abort' });
  await hosts.mustRunAt('source');
  await hosts.mustBeGoneFrom('destination');
  const replayed = await hosts.run(['replay', aborted.id, '--json']);
  expect([replayed.code, replayed.stderr]).toEqual([3, '']);
  const { last, recorded } = JSON.parse(replayed.stdout);
  expect(last.verdict).toMatchObject({ action: 'abort', reason: aborted.message });
  expect(recorded.decision).toEqual({ stats: last.stats, verdict: last.verdict });
  const moved = await hosts.migrate(...slow, '--timeout', '8s', '--prefer', 'completion');
  expect(moved).toMatchObject({ exit: 0, outcome: 'completed' });
  await hosts.mustRunAt('destination');
});

test('--abort-above holds even when finishing matters more', async () => {
  await hosts.boot(BUSY);
  const view = await hosts.migrate(
    ...[
      '--bandwidth',
      '20MiB/s',
      '--suspend-bandwidth',
      '20MiB/s',
      '--no-compression',
      '--timeout',
      '6s',
    ],
    ...['--prefer', 'completion', '--abort-above', '200ms'],
  );
  expect(view).toMatchObject({ exit: 3, outcome: 'aborted' });
  await hosts.mustRunAt('source');
});

test('a missed suspension limit rolls back and says what would have been enough', async () => {
  await hosts.boot(BUSY);
  const id = await hosts.begin(
    '--bandwidth',
    '20MiB/s',
    '--suspend-bandwidth',
    '20MiB/s',
    '--no-compression',
    '--max-suspend-time',
    '150ms',
  );
  await hosts.run(['cutover', id, '--force']);
  const view = await hosts.ended(id);
  expect(view).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
  expect(view.message).toMatch(
    /missed by about .* --max-suspend-time \d+ms would have been enough/,
  );
  // The deadline has resumed it, and not the end of what was to be sent.
  expect(view.roundSent).toBeLessThan(view.roundPages);
  await hosts.mustRunAt('source');
  await hosts.mustBeGoneFrom('destination');
  expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
  await hosts.mustRunAt('destination');
});

test('a cancel in stop-and-copy resumes the guest', async () => {
  await hosts.boot(BUSY);
  // Finishing matters more, so no deadline ends the suspension before the cancel does.
  const id = await hosts.begin(
    '--bandwidth',
    '2MB/s',
    '--suspend-bandwidth',
    '2MB/s',
    '--no-compression',
    '--prefer',
    'completion',
  );
  await hosts.run(['cutover', id, '--force']);
  await until(async () => (await hosts.view(id)).phase === 'stop-and-copy', 'the guest stands');
  const late = await hosts.run(['set', id, '--timeout', '1m']);
  expect(late).toMatchObject({ code: 1, stderr: expect.stringContaining('too-late') });
  expect((await hosts.run(['cancel', id])).code).toBe(0);
  expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled' });
  await hosts.mustRunAt('source');
  await hosts.mustBeGoneFrom('destination');
  expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
  await hosts.mustRunAt('destination');
});

test('limits change in flight', async () => {
  await hosts.boot(BUSY);
  const id = await hosts.begin(
    '--bandwidth',
    '10MiB/s',
    '--suspend-bandwidth',
    '10MiB/s',
    '--no-compression',
    '--max-suspend-time',
    '50ms',
  );
  const set = [
    '--max-suspend-time',
    '30s',
    '--pause-below',
    '20s',
    '--bandwidth',
    '200MiB/s',
    '--suspend-bandwidth',
    '200MiB/s',
  ];
  const { code, stderr } = await hosts.run(['set', id, ...set]);
  assert.equal(code, 0, stderr);
  const view = await hosts.ended(id);
  expect(view).toMatchObject({ outcome: 'completed', limits: { maxSuspendMs: 30_000 } });
  await hosts.mustRunAt('destination');
});

test('a custom policy decides; one that throws is replaced and named', async () => {
  await hosts.boot(HOT);
  const good = path.join(hosts.dir, 'good.ts');
  fs.writeFileSync(
    good,
    `export const policy = (stats: { iteration: number }) => stats.iteration < 3
      ? { action: 'continue', reason: 'not yet three' } : { action: 'stop-and-copy', reason: 'three it is' };`,
  );
  const view = await hosts.migrate('--policy-module', good, '--max-suspend-time', '20s');
  expect(view).toMatchObject({ exit: 0, verdict: { reason: 'three it is' } });
  await hosts.mustRunAt('destination');
});

test('a custom policy that throws does not stop the move', async () => {
  await hosts.boot(HOT);
  const bad = path.join(hosts.dir, 'bad.ts');
  fs.writeFileSync(bad, `export function policy() { throw new Error('no idea'); }`);
  const view = await hosts.migrate('--policy-module', bad, '--max-suspend-time', '20s');
  expect(view).toMatchObject({ exit: 0, outcome: 'completed' });
  const { stdout } = await hosts.run(['report', view.id, '--json']);
  const html = fs.readFileSync(JSON.parse(stdout).file, 'utf8');
  expect(html).toContain('no idea');
});

test('four guests move at once', async () => {
  const names = ['vm1', 'vm2', 'vm3', 'vm4'];
  await Promise.all(
    names.map((name) =>
      hosts.boot({ ...HOT, name, memory: '32MiB', rate: 500, workingSet: '4MiB' }),
    ),
  );
  const views = await Promise.all(
    names.map((name) => hosts.migrateGuest(name, '--max-suspend-time', '20s')),
  );
  for (const view of views) expect(view).toMatchObject({ exit: 0, outcome: 'completed' });
  for (const name of names) {
    await hosts.mustRunAt('destination', name);
    await hosts.mustBeGoneFrom('source', name);
  }
});

test('list, show, guests and report tell of it', async () => {
  await hosts.boot(HOT);
  expect((await hosts.run(['guests'])).stdout).toMatch(/vm1 +simulated +64 MiB +runs/);
  const plain = await hosts.run(['migrate', 'vm1', hosts.target, '--max-suspend-time', '20s']);
  expect(plain.code).toBe(0);
  expect(plain.stdout).toMatch(/outcome +completed/);
  const id = /agent-send report ([0-9a-f]{16})/.exec(plain.stdout)![1]!;
  expect((await hosts.run(['list'])).stdout).toContain(id);
  expect((await hosts.run(['list'], 'recv')).stdout).toContain(id);
  expect((await hosts.run(['show', id.slice(0, 6)])).stdout).toContain('completed');
  const report = await hosts.run(['report', id]);
  const html = fs.readFileSync(report.stdout.trim(), 'utf8');
  expect(html).toContain('<svg');
  expect(html).not.toMatch(/(?:src|href)="http/);
});
