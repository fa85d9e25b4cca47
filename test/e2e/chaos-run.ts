import { parseArgs } from 'node:util';
import { formatDuration } from '../../lib/units.ts';
import { endure, firstFaults, type Outcome, Trial } from './chaos.ts';
import { noNamespaces } from './namespaces.ts';
import {
  killsAtFaultPoints,
  killsInRecovery,
  killsOfBoth,
  type Ordeal,
  stopsAtFaultPoints,
  strikesAtRandom,
} from './ordeals.ts';

const HELP = `Kills, stops and cuts off both agents at every step of a migration, and asks the guests.

Usage: npm run chaos -- [options]

  --seed N      moments of the random strikes (default: by the clock)
  --strikes N   number of random strikes (default 40)
  --only TEXT   only ordeals with this in their name
  --lanes N     ordeals at the same time (default 2)
  --list        print the ordeals and run none
`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    strikes: { type: 'string', default: '40' },
    only: { type: 'string', default: '' },
    lanes: { type: 'string', default: '2' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000);
const why = noNamespaces();

const ordeals = [
  ...killsAtFaultPoints(),
  ...killsInRecovery(),
  ...killsOfBoth(),
  ...stopsAtFaultPoints(),
  ...strikesAtRandom(mulberry(seed), Number(values.strikes), why === undefined),
].filter(({ name }) => name.includes(values.only));

if (values.help) process.stdout.write(HELP);
else if (values.list) process.stdout.write(ordeals.map(({ name }) => `${name}\n`).join(''));
else process.exitCode = (await runAll()) ? 0 : 1;

async function runAll(): Promise<boolean> {
  print(`${ordeals.length} ordeals, seed ${seed}`);
  if (why !== undefined) print(`no cuts of the network: ${why}`);
  const total = { kills: 0, stops: 0, cuts: 0, looks: 0, moved: 0, stayed: 0, violations: 0 };
  const started = performance.now();
  const waiting = ordeals.values(); // shared by the lanes
  const lane = async () => {
    for (const ordeal of waiting) {
      const result = await run(ordeal);
      if (result === undefined) {
        total.violations++;
        continue;
      }
      total[result.outcome]++;
      for (const key of ['kills', 'stops', 'cuts', 'looks'] as const) total[key] += result[key];
    }
  };
  await Promise.all(Array.from({ length: Number(values.lanes) }, lane));
  const { kills, stops, cuts, looks, moved, stayed, violations } = total;
  print(`
${kills} kills, ${stops} stops, ${cuts} cuts in ${formatDuration(performance.now() - started)}, seed ${seed}
${moved} guests moved, ${stayed} stayed; both copies were asked ${looks} times whether they run
${violations === 0 ? 'never two, never none' : `${violations} VIOLATIONS`}`);
  return violations === 0;
}

/** One line of the table; undefined after a violation. */
async function run(ordeal: Ordeal): Promise<Outcome | undefined> {
  let trial: Trial | undefined;
  try {
    trial = await Trial.prepare(firstFaults(ordeal), ordeal.strike?.at === 'network');
    const result = await endure(trial, ordeal);
    await trial.end();
    const time = formatDuration(result.settleMs);
    print(`${ordeal.name.padEnd(92)} ${result.outcome}  settled in ${time}`);
    return result;
  } catch (error) {
    const story = trial?.story() ?? '';
    await trial?.destroy();
    print(`VIOLATION  ${ordeal.name}, seed ${seed}\n${(error as Error).stack}\n${story}`);
    return undefined;
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Numbers in [0, 1) from a seed: mulberry32. */
function mulberry(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
