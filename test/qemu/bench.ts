/**
 * `npm run bench:qemu [-- --quick] [--only TEXT] [--size SIZE] [--repeats N] [--runs N] [--json]`
 *
 * One guest moved by QEMU itself and by Godwit, in turn, so that a machine that changes its speed
 * changes it for all of them; medians and ratios count: a guest that stands still, and at 1 Gbit/s
 * (`--only busy`) one that writes memory. Measures; judges nothing and fails on nothing but a broken
 * migration. With --quick everything is tried once and small: it shows that the benchmark
 * works, and no more. Needs root (network namespaces) and what the tests with QEMU need.
 */
import fs from 'node:fs';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { formatSize, parseCount, parseSize } from '../../lib/units.ts';
import { gigabit, noGigabit } from '../bench/network.ts';
import type { Network } from '../e2e/hosts.ts';
import { twoNamespaces } from '../e2e/namespaces.ts';
import { type BusyCosts, busyShape, LIMITS, moveBusy, PAGES_PER_SECOND } from './bench-busy.ts';
import { Cleanup } from './bench-cleanup.ts';
import { writeContent } from './bench-content.ts';
import { GivenUp, type Method } from './bench-method.ts';
import { type Costs, move, newDir } from './bench-move.ts';
import { parserRate, recordedStream } from './bench-parser.ts';
import { BEAT_MS, idleSuspension } from './bench-suspension.ts';
import { digits, inWords, median, spread, type Target, table } from './bench-table.ts';
import {
  BUSY_METHODS,
  type BusyResult,
  busyTargetsOf,
  DIRECT,
  METHODS,
  type NetworkName,
  type Result,
  targetsOf,
} from './bench-targets.ts';
import { whyNoQemu } from './guest/installed.ts';

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    size: { type: 'string' },
    repeats: { type: 'string' },
    runs: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const count = (text: string, option: string) => parseCount(text, option, { min: 1, max: 1000 });
const repeats = count(given.repeats ?? (given.quick ? '1' : '3'), '--repeats');
const runs = count(given.runs ?? (given.quick ? '1' : '10'), '--runs');
const size = given.size ?? (given.quick ? '64MiB' : '1GiB');
const sizeBytes = parseSize(size, '--size', { min: 64 << 20 });
/** Of the busy guest, MiB. */
const busyMiB = given.quick ? 128 : 512;
const isWanted = (what: string) => what.includes(given.only);
const say = (text: string) => process.stderr.write(`${text}\n`);

const why = whyNoQemu() ?? noGigabit();
if (why !== undefined) {
  say(`the benchmark of QEMU migrations cannot run: ${why}`);
  process.exit(1);
}

/** A figure that stands for itself. */
interface Figure {
  readonly what: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly targets: readonly Target[];
}

const cleanup = new Cleanup();
cleanup.endOnSignal();
const results: Result[] = [];
const busyResults: BusyResult[] = [];
const figures: Figure[] = [];
try {
  results.push(...(await moves('unlimited', twoNamespaces)));
  results.push(...(await moves('1 Gbit/s', limited)));
  busyResults.push(...(await busyMoves()));
  figures.push(...(await fixedPart()));
  figures.push(...parser());
  figures.push(...(await suspension('direct', 'files')));
  figures.push(...(await suspension('stream', 'anonymous')));
} finally {
  await cleanup.end();
}
print();

async function moves(name: NetworkName, open: () => Network & { close(): void }) {
  const wanted = METHODS[name].filter((method) => isWanted(`${name}: ${method.name}`));
  const results = wanted.map((method) => ({ network: name, method, costs: [] as Costs[] }));
  if (results.length === 0) return [];
  await using part = cleanup.part();
  const content = newContent(part, sizeBytes);
  const network = open();
  part.defer(() => network.close());
  for (let i = 1; i <= repeats; i++)
    for (const { method, costs } of results) {
      const cost = await move(method, { network, content, cleanup: part });
      costs.push(cost);
      say(`${name}: ${method.name}, ${i} of ${repeats}: ${digits(cost.seconds)} s`);
    }
  return results;
}

/** A guest that writes memory while it moves, at 1 Gbit/s. */
async function busyMoves(): Promise<BusyResult[]> {
  const nameOf = ({ name }: Method) => `busy guest, 1 Gbit/s: ${name}`;
  const wanted = BUSY_METHODS.filter((method) => isWanted(nameOf(method)));
  const results = wanted.map((method) => ({
    method,
    costs: [] as BusyCosts[],
    givenUp: [] as string[],
  }));
  if (results.length === 0) return [];
  await using part = cleanup.part();
  const content = newContent(part, busyMiB << 20);
  const network = limited();
  part.defer(() => network.close());
  const options = { network, content, shape: busyShape(busyMiB), cleanup: part };
  for (let i = 1; i <= repeats; i++)
    for (const result of results) {
      const moved = await moveBusy(result.method, options);
      if (moved instanceof GivenUp) result.givenUp.push(moved.message);
      else result.costs.push(moved);
      const end = moved instanceof GivenUp ? moved.message : `${digits(moved.seconds)} s`;
      say(`${nameOf(result.method)}, ${i} of ${repeats}: ${end}`);
    }
  return results;
}

/** What a move takes that moves next to nothing: a small guest with next to nothing in it. */
async function fixedPart(): Promise<Figure[]> {
  const what = 'fixed part: a guest of 64 MiB with nothing in it, unlimited';
  if (!isWanted(what)) return [];
  await using part = cleanup.part();
  const content = newFile(part);
  fs.writeFileSync(content, '');
  fs.truncateSync(content, 64 << 20);
  const network = twoNamespaces();
  part.defer(() => network.close());
  const values: number[] = [];
  while (values.length < runs) {
    const { seconds } = await move(DIRECT, { network, content, cleanup: part });
    values.push(seconds * 1000);
    say(`${what}, ${values.length} of ${runs}: ${digits(values.at(-1)!)} ms`);
  }
  const targets = [{ text: 'median at most 150', met: median(values) <= 150 }];
  return [{ what, unit: 'ms', values, targets }];
}

function newFile(part: Cleanup): string {
  return `${newDir(part, '/dev/shm')}/content`;
}

function newContent(part: Cleanup, bytes: number): string {
  const file = newFile(part);
  say(`filling ${formatSize(bytes)} of guest memory`);
  writeContent(file, bytes);
  return file;
}

function limited(): Network & { close(): void } {
  const { source, destination, close } = gigabit();
  const prefixes = { source: source.prefix, destination: destination.prefix };
  return { address: destination.address, ...prefixes, close };
}

function parser(): Figure[] {
  const pieces = { '64 KiB': 64 << 10, '1 MiB': 1 << 20 };
  const wanted = Object.entries(pieces).filter(([name]) => isWanted(`parser, ${name} at a time`));
  if (wanted.length === 0) return [];
  const stream = recordedStream(Math.min(sizeBytes, 512 << 20));
  return wanted.map(([name, bytes]) => {
    parserRate(stream, bytes); // so that it is compiled
    const values = Array.from({ length: Math.max(3, repeats) }, () => parserRate(stream, bytes));
    const target = { text: 'at least 1.5', met: median(values) >= 1.5 };
    return { what: `parser, ${name} at a time`, unit: 'GB/s', values, targets: [target] };
  });
}

async function suspension(placement: string, ram: 'files' | 'anonymous'): Promise<Figure[]> {
  const what = `idle guest, ${placement}: gap of a ${BEAT_MS} ms heartbeat`;
  if (!isWanted(what)) return [];
  const values: number[] = [];
  while (values.length < runs) {
    values.push(await idleSuspension(ram, cleanup));
    say(`${what}, ${values.length} of ${runs}: ${digits(values.at(-1)!)} ms`);
  }
  const targets = [
    { text: 'median at most 50', met: median(values) <= 50 },
    { text: 'every run at most 100', met: Math.max(...values) <= 100 },
  ];
  return [{ what, unit: 'ms', values, targets }];
}

function print(): void {
  const cpu = os.cpus()[0]?.model.trim();
  const machine = `${cpu}, ${os.availableParallelism()} cores, Node ${process.version}, QEMU 10.0`;
  const moves = results.map((result) => ({ ...result, targets: targetsOf(result, results) }));
  const busyMoves = busyResults.map((result) => {
    return { ...result, targets: busyTargetsOf(result, busyResults) };
  });
  if (given.json) {
    const named = <T extends { method: Method }>(each: T) => ({
      ...each,
      method: each.method.name,
    });
    const busy = { ...busyShape(busyMiB), ...LIMITS, moves: busyMoves.map(named) };
    const all = { machine, sizeBytes, moves: moves.map(named), busy, figures };
    process.stdout.write(`${JSON.stringify(all)}\n`);
    return;
  }
  process.stdout.write(`\n${machine}; median (lowest to highest)\n`);
  const size = formatSize(sizeBytes);
  if (moves.length > 0) process.stdout.write(`\nguest of ${size}\n\n${movesTable(moves)}`);
  if (busyMoves.length > 0) process.stdout.write(busyTable(busyMoves));
  if (figures.length > 0) process.stdout.write(`\n${figuresTable()}`);
}

function movesTable(moves: readonly (Result & { targets: readonly Target[] })[]): string {
  const head = ['network', 'method', 'wall, s', 'wire, MB', 'CPU, s', 'suspension, ms', 'target'];
  const rows = moves.map(({ network, method, costs, targets }) => [
    ...[network, method.name],
    spread(costs.map(({ seconds }) => seconds)),
    spread(costs.map(({ wireBytes }) => wireBytes / 1e6)),
    spread(costs.map(({ processorSeconds }) => processorSeconds)),
    spread(costs.map(({ suspensionMs }) => suspensionMs)),
    inWords(targets),
  ]);
  return table(head, rows);
}

function busyTable(moves: readonly (BusyResult & { targets: readonly Target[] })[]): string {
  const head = ['method', 'moved', 'wall, s', 'wire, MB', 'CPU, s', 'suspension, ms'];
  const rows = moves.map(({ method, costs, givenUp, targets }) => {
    const of = (figure: (cost: BusyCosts) => number) => spread(costs.map(figure));
    return [
      method.name,
      [`${costs.length} of ${costs.length + givenUp.length}`, ...givenUp].join('; '),
      of(({ seconds }) => seconds),
      of(({ wireBytes }) => wireBytes / 1e6),
      of(({ processorSeconds }) => processorSeconds),
      of(({ suspensionMs }) => suspensionMs),
      of(({ gapMs }) => gapMs),
      of(({ pagesPerSecond }) => pagesPerSecond),
      inWords(targets),
    ];
  });
  const { maxSuspendMs, timeoutMs } = LIMITS;
  const title =
    `\nguest of ${busyMiB} MiB that writes ${PAGES_PER_SECOND} pages/s over a quarter of it, 1 Gbit/s; ` +
    `suspension of at most ${maxSuspendMs} ms, given up after ${timeoutMs / 1000} s\n\n`;
  return title + table([...head, 'gap, ms', 'guest wrote, pages/s', 'target'], rows);
}

function figuresTable(): string {
  const rows = figures.map(({ what, values, unit, targets }) => [
    ...[what, spread(values), unit],
    inWords(targets),
  ]);
  return table(['what', 'measured', 'unit', 'target'], rows);
}
