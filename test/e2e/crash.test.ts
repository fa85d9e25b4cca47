import { afterEach, expect, test } from 'vitest';
import { endure, firstFaults, type Outcome, Trial } from './chaos.ts';
import { noNamespaces } from './namespaces.ts';
import { MOVES, type Ordeal } from './ordeals.ts';

/* A choice out of what `npm run chaos` does: real agents, really killed, stopped and cut off. */

let trial: Trial | undefined;
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') {
    process.stderr.write(trial?.story() ?? '');
    await trial?.destroy();
  } else await trial?.end();
  trial = undefined;
});

async function run(ordeal: Ordeal): Promise<Outcome> {
  trial = await Trial.prepare(firstFaults(ordeal), ordeal.strike?.at === 'network');
  return endure(trial, ordeal);
}

/** Where the guest is in the end. What is durable at the source when it happens decides that. */
const AT_SOURCE = [
  ['kill@source.after.suspend-guest', 'stayed'],
  ['kill@source.before.journal-committed', 'stayed'],
  ['kill@source.after.journal-committed', 'moved'],
  ['kill@source.after.send-commit', 'moved'],
  ['kill@source.after.journal-released', 'moved'],
  ['kill@source.before.journal-ended', 'moved'],
  // It comes back after its own deadline.
  ['stop@source.before.journal-committed', 'stayed'],
] as const;

test.each(AT_SOURCE)('%s: the guest has %s, once', async (fault, outcome) => {
  const result = await run({ name: fault, course: MOVES, faults: { source: [fault] } });
  expect(result).toMatchObject({ outcome, kills: fault.startsWith('kill') ? 1 : 0 });
});

const AT_DESTINATION = [
  ['kill@destination.before.journal-prepared', 'stayed'],
  ['kill@destination.before.journal-running', 'moved'],
  ['kill@destination.after.journal-running', 'moved'],
  ['kill@destination.after.resume-guest', 'moved'],
  ['kill@destination.before.journal-ended', 'moved'],
  // The source takes it for dead and asks again.
  ['stop@destination.before.journal-running', 'moved'],
] as const;

test.each(AT_DESTINATION)('%s: the guest has %s, once', async (fault, outcome) => {
  const result = await run({ name: fault, course: MOVES, faults: { destination: [fault] } });
  expect(result).toMatchObject({ outcome, kills: fault.startsWith('kill') ? 1 : 0 });
});

test('both agents are killed at the point of no return, and one of them again', async () => {
  const faults = {
    source: ['kill@source.after.send-commit', 'kill@source.before.journal-released'],
    destination: ['kill@destination.before.journal-running'],
  };
  const result = await run({ name: 'both', course: MOVES, faults });
  expect(result).toMatchObject({ outcome: 'moved', kills: 3 });
});

const why = noNamespaces();
if (why !== undefined) process.stderr.write(`no cut of the network: ${why}\n`);

test.skipIf(why !== undefined)('the network is cut while the guest is suspended', async () => {
  const strike = {
    at: 'network',
    how: 'cut',
    from: 'suspension',
    afterMs: 0,
    forMs: 2500,
  } as const;
  const result = await run({ name: 'cut', course: MOVES, strike });
  expect(result.cuts).toBe(1);
});
