import { parseArgs } from 'node:util';
import { remarksOf } from '../../lib/evacuation/words.ts';
import { plural } from '../../lib/report/words.ts';
import { formatDuration, formatRate } from '../../lib/units.ts';
import { evacuate } from './crowd.ts';
import { words } from './endurance.ts';

const HELP = `Evacuates small guests, all at once, through one pair of daemons. Fails when an agent takes a thread of its own for
any of them, or more memory for each than 8 MiB.

Usage: npm run crowd -- [options]

  --guests N         (default 64)
  --memory SIZE      of each guest (default 16MiB)
  --bandwidth RATE   for all guests together (default none)
  --together         hold each until all are on their way
`;

/** What an agent may take for each guest that moves, MiB, and for whatever else came meanwhile: V8 grows before it looks. */
const EACH_MIB = 8;
const SLACK_MIB = 64;

const { values } = parseArgs({
  options: {
    guests: { type: 'string', default: '64' },
    memory: { type: 'string', default: '16MiB' },
    bandwidth: { type: 'string' },
    together: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const print = (line: string) => void process.stdout.write(`${line}\n`);

if (values.help) print(HELP);
else {
  const guests = Number(values.guests);
  const { bandwidth, memory, together } = values;
  const { burdens, view, atOnce, evenness, waits } = await evacuate({
    guests,
    memory,
    bandwidth,
    together,
  });
  const ends = view.leaving.flatMap(({ end }) => end ?? []);
  const moved = ends.filter(({ outcome }) => outcome === 'completed').length;
  const again = view.leaving.filter(({ tries }) => tries > 1).length;
  const ms = Date.parse(view.endedAt!) - Date.parse(view.startedAt);
  const bytes = ends.reduce((sum, { wireBytes = 0 }) => sum + wireBytes, 0);
  const rate = formatRate((bytes * 1000) / ms);
  print(`${moved} of ${guests} guests moved in ${formatDuration(ms)}, ${again} at a second try;`);
  print(`${rate} in all, at most ${atOnce} in their rounds at one look`);
  print(`times: ${spread(ends.map((end) => end.ms ?? 0))}`);
  print(`suspensions: ${spread(ends.map((end) => end.suspensionMs ?? 0))}`);
  const even = evenness.toSorted((a, b) => a - b);
  if (even.length > 0)
    print(
      `evenness (Jain): ${at(even, 0.5).toFixed(2)} in the median, ${at(even, 0).toFixed(2)} at worst`,
    );
  for (const guest of view.leaving)
    if (guest.end?.outcome !== 'completed') print(`${guest.name}: ${remarksOf(guest).join('; ')}`);
  for (const [why, times] of counted(waits)) print(`${plural(times, 'time')}: ${why}`);
  if (moved < guests) fail('NOT ALL GUESTS HAVE MOVED');
  for (const { agent, before, most } of burdens) {
    const each = (most.rssMiB - before.rssMiB) / guests;
    print(`${agent}: before ${words(before)}; at most ${words(most)}: ${each.toFixed(1)} MiB each`);
    if (most.threads > before.threads) fail(`${agent} HAS MORE THREADS`);
    if (most.rssMiB - before.rssMiB > guests * EACH_MIB + SLACK_MIB)
      fail(`${agent} TAKES TOO MUCH`);
  }
}

/** How often each reason was given, whichever guest it was about. */
function counted(waits: readonly string[]): ReadonlyMap<string, number> {
  const times = new Map<string, number>();
  for (const text of waits) {
    const why = text.replace(/^vm\d+ /, '').slice(0, 200);
    times.set(why, (times.get(why) ?? 0) + 1);
  }
  return times;
}

function spread(all: readonly number[]): string {
  const sorted = all.toSorted((a, b) => a - b);
  const words = (share: number) => formatDuration(at(sorted, share));
  return `${words(0)} to ${words(1)}, half of them within ${words(0.25)} to ${words(0.75)}`;
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.floor((sorted.length - 1) * share)]!;
}

function fail(text: string): void {
  print(text);
  process.exitCode = 1;
}
