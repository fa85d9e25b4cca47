import { afterEach, expect, test } from 'vitest';
import type { MigrationView } from '../../lib/migration/view.ts';
import { Trial } from './chaos.ts';
import { type Side, until } from './hosts.ts';
import { MOVES } from './ordeals.ts';

/* A host that stays away: what the other one shows, and what a person may decide there. */

let trial: Trial;
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return trial.end();
  process.stderr.write(trial.story());
  await trial.destroy();
});

/** The source has committed; the destination has its copy, has not run it, and is away. */
async function destinationAway(): Promise<void> {
  trial = await Trial.prepare({ destination: 'kill@destination.before.journal-running' });
  await trial.begin(MOVES);
  expect(await trial.struck('destination')).toBe('killed');
}

/** The destination has its copy and has not heard of a commit; the source is away. */
async function sourceAway(fault: string): Promise<void> {
  trial = await Trial.prepare({ source: fault });
  await trial.begin(MOVES);
  expect(await trial.struck('source')).toBe('killed');
  await until(
    async () => (await trial.list('destination'))[0]?.waitsFor !== undefined,
    'the destination has prepared its copy',
  );
}

function resolve(side: Side, ...choice: string[]) {
  return trial.hosts.run(['resolve', trial.id, ...choice], side === 'source' ? 'send' : 'recv');
}

async function listed(side: Side): Promise<string> {
  return (await trial.hosts.run(['list'], side === 'source' ? 'send' : 'recv')).stdout;
}

test('list says what is being recovered and what it waits for', async () => {
  await destinationAway();
  await until(async () => (await listed('source')).includes('waits for'), 'the source says so');
  expect(await listed('source')).toMatch(
    /handover .*\n(?: .*\n)? +waits for the destination's word/,
  );

  await trial.kill('source');
  await trial.restart('source');
  await until(async () => (await listed('source')).includes('waits for'), 'it says so again');
  expect(await listed('source')).toMatch(
    /recovery .*\n(?: .*\n)? +waits for 127\.0\.0\.1:\d+ to say how/,
  );

  await trial.kill('source');
  await trial.restart('destination');
  expect(await listed('destination')).toMatch(/recovery .*\n(?: .*\n)? +waits for the source/);

  await trial.restart('source');
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'moved' });
});

test('resolve without a choice explains and does nothing', async () => {
  await destinationAway();
  const asked = await resolve('source');
  expect(asked.code).toBe(0);
  expect(asked.stdout).toMatch(/suspended here with all its memory/);
  expect(asked.stdout).toMatch(/--keep-here\n.*\n +Risk: /);
  expect(asked.stdout).toMatch(/--give-up\n.*\n +Risk: /);
  const both = await resolve('source', '--keep-here', '--give-up');
  expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining('choose one') });
  await trial.restart('destination');
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'moved' });
});

test('--keep-here at the source: a destination that comes back gives its copy up', async () => {
  await destinationAway();
  expect(await resolve('source', '--keep-here')).toMatchObject({ code: 0, stderr: '' });
  await trial.hosts.mustRunAt('source');
  await trial.restart('destination');
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'stayed' });
});

test('--give-up at the source: a destination that comes back runs its copy', async () => {
  await destinationAway();
  expect(await resolve('source', '--give-up')).toMatchObject({ code: 0, stderr: '' });
  await trial.hosts.mustBeGoneFrom('source');
  await trial.restart('destination');
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'moved' });
});

test('--keep-here at the destination: a source that had committed lets go', async () => {
  await sourceAway('kill@source.after.journal-committed');
  expect(await resolve('destination', '--keep-here')).toMatchObject({ code: 0, stderr: '' });
  await trial.hosts.mustRunAt('destination');
  await trial.restart('source');
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'moved' });
});

test('--give-up at the destination: a source that had committed runs the guest again', async () => {
  await sourceAway('kill@source.after.journal-committed');
  expect(await resolve('destination', '--give-up')).toMatchObject({ code: 0, stderr: '' });
  await trial.hosts.mustBeGoneFrom('destination');
  await trial.restart('source');
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'stayed' });
});

test('--keep-here at the destination: a source that had not committed stands down', async () => {
  // This is the risk that resolve names: the source was not gone for good, and resumes when it is back.
  await sourceAway('kill@source.before.journal-committed');
  expect(await resolve('destination', '--keep-here')).toMatchObject({ code: 0, stderr: '' });
  await trial.restart('source');
  await until(async () => (await resolve('source')).stdout.includes('decided'), 'it stands down');
  expect((await resolve('source')).stdout).toMatch(/A person decided at the destination/);
  await until(() => trial.watcher.status('source') !== 'running', 'its copy is suspended');
  await trial.hosts.mustRunAt('destination');

  expect(await resolve('source', '--give-up')).toMatchObject({ code: 0, stderr: '' });
  await trial.hosts.mustBeGoneFrom('source');
  await trial.settled(); // the destination hears of it
  await trial.hosts.mustRunAt('destination');
});

test('a decision that is not open is refused', async () => {
  await destinationAway();
  await trial.restart('destination');
  await trial.settled();
  const late = await resolve('source', '--keep-here');
  expect(late).toMatchObject({ code: 1, stderr: expect.stringContaining('too-late') });
  expect(await trial.judge()).toMatchObject({ outcome: 'moved' });
});

test('migrate ends with exit code 5 when the destination stays away', async () => {
  trial = await Trial.prepare({ destination: 'kill@destination.before.journal-running' });
  await trial.boot(MOVES);
  const { hosts } = trial;
  const result = await hosts.run(['migrate', 'vm1', hosts.target, '--max-suspend-time', '20s']);
  expect(result.code).toBe(5);
  expect(result.stderr).toMatch(/waits for the destination's word/);
  expect(result.stderr).toMatch(/agent-send resolve [0-9a-f]{16}/);
  const [{ id }] = (await trial.list('source')) as [MigrationView];
  await trial.restart('destination');
  // A decision also ends the pause before the next attempt to ask.
  expect((await hosts.run(['resolve', id, '--keep-here'])).code).toBe(0);
  await trial.settled();
  expect(await trial.judge()).toMatchObject({ outcome: 'stayed' });
});
