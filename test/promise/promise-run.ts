import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { whyNoQemu } from '../qemu/guest/installed.ts';
import { randomOf } from '../random.ts';
import { isOver, type Moved } from './moved.ts';
import { keepPromises } from './promise.ts';
import { line, table } from './table.ts';

const HELP = `Moves random guests between real daemons, and asks the guests how long they stood still and the
forecasts how good they were, that of the check before the move and that at the decision.
Fails when one stood still for longer than was allowed, roll backs included; a machine that is busy
with other things can be the reason.

Usage: npm run promise -- [options]

  --moves N   of simulated guests (default 1000)
  --qemu N    of Linux guests under QEMU (default: a fifth of them, where QEMU is there)
  --seed N    what is random (default: by the clock)
  --raw FILE  adds each move to the file, as a line of JSON
  --quiet     no line for each move
  --lenient   does not fail
`;

const { values } = parseArgs({
  options: {
    moves: { type: 'string', default: '1000' },
    qemu: { type: 'string' },
    seed: { type: 'string' },
    raw: { type: 'string' },
    quiet: { type: 'boolean', default: false },
    lenient: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const print = (text: string) => void process.stdout.write(`${text}\n`);

if (values.help) print(HELP);
else await run();

async function run(): Promise<void> {
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const simulated = Number(values.moves);
  const noQemu = whyNoQemu();
  const qemu = noQemu === undefined ? Number(values.qemu ?? Math.ceil(simulated / 5)) : 0;
  print(`seed ${seed}${noQemu === undefined ? '' : `; no guests of QEMU: ${noQemu}`}`);
  const all: Moved[] = [];
  try {
    await keepPromises({ simulated, qemu, random: randomOf(seed) }, (moved) => {
      all.push(moved);
      if (values.raw !== undefined) fs.appendFileSync(values.raw, `${JSON.stringify(moved)}\n`);
      if (!values.quiet) print(`${isOver(moved) ? 'OVER ' : ''}${line(moved)}`);
    });
  } finally {
    print(`\n${table(all)}`);
  }
  if (all.some(isOver) && !values.lenient) process.exitCode = 1;
}
