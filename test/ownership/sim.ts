import os from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { runSchedule, type Tally } from './simulator.ts';

/* `npm run sim`: many random schedules on all processors, or one again by its seed. */

interface Part {
  readonly first: number;
  readonly count: number;
  readonly step: number;
  /** Of a hundred schedules so many have a person in them. */
  readonly persons: number;
}

async function run({ first, count, step, persons }: Part): Promise<Tally> {
  Error.stackTraceLimit = 0; // made in every schedule, and never read
  const tally: Tally = {};
  for (let seed = first; seed < first + count; seed += step)
    await runSchedule({ seed, tally, faults: seed % 7, person: seed % 100 < persons });
  return tally;
}

async function inThread(part: Part): Promise<Tally> {
  const worker = new Worker(new URL(import.meta.url), { workerData: part });
  const { promise, resolve, reject } = Promise.withResolvers<Tally>();
  worker.once('message', resolve);
  worker.once('error', reject);
  return promise;
}

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      first: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
      schedules: { type: 'string', default: '100000' },
      person: { type: 'string', default: '0.2' },
    },
  });
  const count = values.seed === undefined ? Number(values.schedules) : 1;
  const first = Number(values.seed ?? values.first);
  const persons = Number(values.person) * 100;
  const started = performance.now();
  const step = Math.min(count, os.availableParallelism());
  const parts = Array.from({ length: step }, (_, i) => ({
    ...{ first: first + i, count: count - i, step, persons },
  }));
  const tally: Tally = {};
  try {
    for (const part of await Promise.all(parts.map(inThread)))
      for (const [what, times] of Object.entries(part)) tally[what] = (tally[what] ?? 0) + times;
  } catch (error) {
    console.error((error as Error).message);
    process.exit(1);
  }
  const seconds = (performance.now() - started) / 1000;
  console.log(`${count} schedules from seed ${first} in ${seconds.toFixed(1)} s, no violation`);
  console.log(
    Object.entries(tally)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  );
} else parentPort!.postMessage(await run(workerData));
