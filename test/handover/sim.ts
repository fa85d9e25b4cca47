import { parseArgs } from 'node:util';
import { newTally, runSchedule } from './simulator.ts';

/* `npm run sim`: many random schedules, or one again by its seed. */

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    first: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    schedules: { type: 'string', default: '100000' },
  },
});
const count = values.seed === undefined ? Number(values.schedules) : 1;
const first = Number(values.seed ?? values.first);
const tally = newTally();
const started = performance.now();
for (let i = 0; i < count; i++) {
  const seed = first + i;
  await runSchedule({ seed, tally, faults: seed % 7, person: seed % 5 === 0 });
}
const seconds = (performance.now() - started) / 1000;
console.log(`${count} schedules from seed ${first} in ${seconds.toFixed(1)} s, no violation`);
console.log(
  Object.entries(tally)
    .map(([name, value]) => `${name} ${value}`)
    .join(', '),
);
