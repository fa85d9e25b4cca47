import { parseArgs } from 'node:util';
import { backAndForth, words } from './endurance.ts';

const HELP = `Moves a guest back and forth between two hosts. Fails when their daemons hold more in the end than
after 20 moves.

Usage: npm run endurance -- [options]

  --moves N   migrations of each daemon (default 300); fewer than 30 are moved and not judged
`;

/** V8 grows its heap before it looks for what is no longer used. */
const SLACK_MIB = 32;

const { values } = parseArgs({
  options: {
    moves: { type: 'string', default: '300' },
    help: { type: 'boolean', default: false },
  },
});
const moves = Number(values.moves);
const print = (line: string) => void process.stdout.write(`${line}\n`);

if (values.help) print(HELP);
else
  for (const { agent, warm, atEnd } of await backAndForth(moves, print)) {
    print(`${agent}: warm ${words(warm)}; after ${moves} moves ${words(atEnd)}`);
    const grown =
      atEnd.descriptors > warm.descriptors ||
      atEnd.threads > warm.threads ||
      atEnd.rssMiB > warm.rssMiB + SLACK_MIB;
    if (!grown || moves < 30) continue;
    print(`${agent} HOLDS MORE than when it was warm`);
    process.exitCode = 1;
  }
