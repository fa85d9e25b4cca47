import { afterEach, expect, test } from 'vitest';
import { ChainTrial } from './chain-chaos.ts';
import { killsInChains } from './chain-ordeals.ts';
import { AT } from './places.ts';

/* A choice out of the chains of `npm run chaos`: agents killed while older migrations are open. */

let trial: ChainTrial | undefined;
afterEach(async ({ task }) => {
  await trial?.site.finish(task.result?.state === 'fail');
  trial = undefined;
});

const PLACES = [AT.toCommit, AT.commitSent, AT.toBeRunning, AT.running];
/** Each place in one course, and each course at one place or more. */
const CHOICE = PLACES.map((place, i) => {
  const courses = killsInChains().filter(({ name }) => name.includes(`kill ${place},`));
  expect(courses.length).toBe(3);
  return courses[i % 3]!;
});

test.each(CHOICE)('$name', async (chain) => {
  trial = await ChainTrial.prepare(chain);
  const { kills } = await trial.endure(chain);
  expect(kills).toBeGreaterThan(1);
});
