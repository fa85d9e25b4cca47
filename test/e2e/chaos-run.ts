import { parseArgs } from 'node:util';
import { formatDuration } from '../../lib/units.ts';
import { randomOf } from '../random.ts';
import { ChainTrial } from './chain-chaos.ts';
import { type Chain, chainsAtRandom, killsInChains } from './chain-ordeals.ts';
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

const HELP = `Kills, stops and cuts off agents at every step of migrations, and asks the guests: between two
hosts, and along chains of three with earlier migrations of the same guest still open.

Usage: npm run chaos -- [options]

  --kills N     goes on with chains at random until so many agents were really killed (default 500);
                fewer than the fixed ordeals have: a choice of them
  --seed N      what is random (default: by the clock)
  --strikes N   number of random strikes between two hosts (default 40)
  --only TEXT   only fixed ordeals with this in their name
  --at-once N   ordeals at the same time (default 2)
  --list        print the fixed ordeals and run none
`;

const { values } = parseArgs({
  options: {
    kills: { type: 'string' },
    seed: { type: 'string' },
    strikes: { type: 'string', default: '40' },
    only: { type: 'string' },
    'at-once': { type: 'string', default: '2' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000);
/** With a choice by name, all of it and nothing else. */
const wanted = Number(values.kills ?? (values.only === undefined ? 500 : 0));
const why = noNamespaces();
const random = randomOf(seed);

/** Something that agents have to endure. */
interface Task {
  readonly name: string;
  readonly run: () => Promise<Outcome>;
}

const fixed: readonly Task[] = [
  ...killsAtFaultPoints(),
  ...killsInRecovery(),
  ...killsOfBoth(),
  ...stopsAtFaultPoints(),
  ...strikesAtRandom(random, Number(values.strikes), why === undefined),
]
  .map(betweenTwo)
  .concat(killsInChains().map(alongChain))
  .filter(({ name }) => name.includes(values.only ?? ''));

if (values.help) process.stdout.write(HELP);
else if (values.list) process.stdout.write(fixed.map(({ name }) => `${name}\n`).join(''));
else process.exitCode = (await runAll()) ? 0 : 1;

async function runAll(): Promise<boolean> {
  const total = { kills: 0, stops: 0, cuts: 0, looks: 0, moved: 0, stayed: 0, violations: 0 };
  print(`${fixed.length} fixed ordeals, and chains at random until ${wanted} kills; seed ${seed}`);
  if (why !== undefined) print(`no cuts of the network: ${why}`);
  const started = performance.now();
  const waiting = tasks(() => total.kills < wanted);
  const taker = async () => {
    for (const task of waiting) {
      const result = await run(task);
      if (result === undefined) {
        total.violations++;
        continue;
      }
      total[result.outcome]++;
      for (const key of ['kills', 'stops', 'cuts', 'looks'] as const) total[key] += result[key];
    }
  };
  await Promise.all(Array.from({ length: Number(values['at-once']) }, taker));
  const { kills, stops, cuts, looks, moved, stayed, violations } = total;
  print(`
${kills} kills, ${stops} stops, ${cuts} cuts in ${formatDuration(performance.now() - started)}, seed ${seed}
${moved} guests moved, ${stayed} stayed; all copies were asked ${looks} times whether they run
${violations === 0 ? 'never two, never none' : `${violations} VIOLATIONS`}`);
  return violations === 0;
}

/** The fixed ones, then as many as it takes; when few are wanted, a choice of the fixed ones. */
function* tasks(more: () => boolean): Generator<Task> {
  const few = values.kills !== undefined && wanted < fixed.length;
  for (const task of few ? shuffled(fixed) : fixed) {
    if (few && !more()) return;
    yield task;
  }
  if (values.only !== undefined && values.kills === undefined) return;
  for (const chain of chainsAtRandom(random, why === undefined)) {
    if (!more()) return;
    yield alongChain(chain);
  }
}

function betweenTwo(ordeal: Ordeal): Task {
  return {
    name: ordeal.name,
    run: async () => {
      const trial = await Trial.prepare(firstFaults(ordeal), ordeal.strike?.at === 'network');
      try {
        const outcome = await endure(trial, ordeal);
        await trial.end();
        return outcome;
      } catch (error) {
        throw await afterFailure(error, trial);
      }
    },
  };
}

function alongChain(chain: Chain): Task {
  return {
    name: chain.name,
    run: async () => {
      const trial = await ChainTrial.prepare(chain);
      try {
        const outcome = await trial.endure(chain);
        await trial.site.end();
        return outcome;
      } catch (error) {
        throw await afterFailure(error, trial.site);
      }
    },
  };
}

/** The error with all that is known, when everything of the trial has been ended by force. */
async function afterFailure(
  error: unknown,
  trial: { story(): string; destroy(): Promise<void> },
): Promise<Error> {
  const story = trial.story();
  await trial.destroy();
  return new Error(`${(error as Error).stack}\n${story}`);
}

/** One line of the table; undefined after a violation. */
async function run({ name, run }: Task): Promise<Outcome | undefined> {
  try {
    const result = await run();
    const time = formatDuration(result.settleMs);
    print(`${name.padEnd(92)} ${result.outcome}  settled in ${time}`);
    return result;
  } catch (error) {
    print(`VIOLATION  ${name}, seed ${seed}\n${(error as Error).message}`);
    return undefined;
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value) => ({ value, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}
