/**
 * `npm run bench [-- --quick] [--json] [--runs N] [--only pipeline,memory,suspension]`
 *
 * Measures; judges nothing and fails on nothing but a broken migration. Competitors run in turn, so
 * that a machine that changes its speed changes it for all of them; medians and ratios count. With
 * --quick everything is tried once and small: it shows that the benchmark works, and no more.
 */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { boot, copy, type Move, move } from './move.ts';
import { gigabit, has, loopback, type Network, noGigabit } from './network.ts';

interface Row {
  readonly part: string;
  readonly what: string;
  readonly unit: string;
  readonly values: readonly number[];
  /** What the project wants of the median, in words, and whether it is so. */
  readonly target?: { readonly text: string; readonly met: boolean };
}

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    runs: { type: 'string' },
    only: { type: 'string', default: 'pipeline,memory,suspension' },
  },
});
const parts = given.only.split(',');
const sizeMiB = given.quick ? 64 : 1024;
const repeats = given.quick ? 1 : 3;
const runs = Number(given.runs ?? (given.quick ? 1 : 20));
const rows: Row[] = [];
const notes = new Set<string>();
const say = (text: string) => process.stderr.write(`${text}\n`);

const IDLE = { workload: 'idle' };
const HOT = { workload: 'hot-set', rate: 5000, workingSet: '64MiB' };
/** A benchmark is no place to roll back. */
const ROOMY = ['--max-suspend-time', '10s'];
/** The same, with the pause that is sought by default. */
const SOON = [...ROOMY, '--pause-below', '300ms'];

if (parts.includes('pipeline')) {
  await pipeline(loopback);
  const why = noGigabit();
  if (why) notes.add(`1 Gbit/s skipped: ${why}`);
  else {
    const network = gigabit();
    try {
      await pipeline(network);
    } finally {
      network.close();
    }
  }
}
if (parts.includes('memory')) await memory();
if (parts.includes('suspension')) await suspension();
print();

/** Guest bytes per second of a full move and of plain copies of the same RAM file. */
async function pipeline(network: Network): Promise<void> {
  const tools = has('socat') && has('zstd');
  if (!tools) notes.add('comparison skipped: apt-get install socat zstd');
  const seen: Record<string, number[]> = {};
  const add = (what: string, value: number) => {
    seen[what] ??= [];
    seen[what].push(value);
  };
  for (let i = 0; i < repeats; i++) {
    say(`${network.name}: repetition ${i + 1} of ${repeats}`);
    for (const [name, options] of [
      ['uncompressed', ['--no-compression']],
      ['adaptive', []],
    ] as const) {
      await using guest = await boot(sizeMiB, IDLE);
      if (tools && name === 'uncompressed') {
        add('socat', guest.memoryBytes / (await copy(guest.ram, network, false)) / 1000);
        add('zstd -1 | socat', guest.memoryBytes / (await copy(guest.ram, network, true)) / 1000);
      }
      const result = completed(await move(guest, network, ...ROOMY, ...options));
      add(`Godwit ${name}`, guest.memoryBytes / result.streamMs / 1000);
      add(`Godwit ${name}, on the wire`, result.wireBytes / 2 ** 20);
      add(`Godwit ${name}, as the operator waits`, guest.memoryBytes / result.totalMs / 1000);
    }
  }
  const plain = median(seen.socat ?? []);
  const packed = median(seen['zstd -1 | socat'] ?? []);
  for (const [what, values] of Object.entries(seen)) {
    const unit = what.endsWith('wire') ? 'MiB' : 'MB/s';
    const row = { part: network.name, what, unit, values };
    const ratio = median(values) / plain;
    if (tools && network === loopback && what === 'Godwit uncompressed')
      rows.push({
        ...row,
        target: { text: `0.5 × socat (is ${ratio.toFixed(2)})`, met: ratio >= 0.5 },
      });
    else if (tools && network !== loopback && what === 'Godwit adaptive') {
      const beside = median(values) / packed;
      const text = `1.5 × socat (is ${ratio.toFixed(2)}), 1.0 × zstd|socat (is ${beside.toFixed(2)})`;
      rows.push({ ...row, target: { text, met: ratio >= 1.5 && beside >= 1 } });
    } else rows.push(row);
  }
}

/** Growth of the agents' peak memory with the guest's size. */
async function memory(): Promise<void> {
  const sizes = given.quick ? [64, 256] : [1024, 4096];
  const peaks: { send: number[]; recv: number[] }[] = [];
  for (const size of sizes) {
    const peak = { send: [] as number[], recv: [] as number[] };
    for (let i = 0; i < repeats; i++) {
      say(`memory: ${size} MiB guest, repetition ${i + 1} of ${repeats}`);
      await using guest = await boot(size, IDLE);
      const result = completed(await move(guest, loopback, ...ROOMY, '--no-compression'));
      peak.send.push(result.sendRss);
      peak.recv.push(result.recvRss);
    }
    peaks.push(peak);
  }
  const pages = ((sizes[1]! - sizes[0]!) * 2 ** 20) / PAGE_SIZE;
  for (const side of ['send', 'recv'] as const) {
    sizes.forEach((size, i) => {
      const values = peaks[i]![side].map((bytes) => bytes / 2 ** 20);
      rows.push({ part: 'memory', what: `agent-${side}, ${size} MiB guest`, unit: 'MiB', values });
    });
    const growth = (median(peaks[1]![side]) - median(peaks[0]![side])) / pages;
    const target = { text: 'at most 16', met: growth <= 16 };
    const what = `agent-${side}, growth of the medians`;
    rows.push({ part: 'memory', what, unit: 'bytes/page', values: [growth], target });
  }
}

/** Suspensions as the guest's heartbeat saw them, on loopback. */
async function suspension(): Promise<void> {
  for (const [name, workload, limit, text] of [
    ['idle', IDLE, 50, 'median below 50'],
    ['hot set, 5,000 pages/s', HOT, 300, 'every run within 300'],
  ] as const) {
    const values: number[] = [];
    for (let i = 0; i < runs; i++) {
      say(`suspension: ${name}, run ${i + 1} of ${runs}`);
      await using guest = await boot(Math.min(256, sizeMiB), workload);
      values.push(completed(await move(guest, loopback, ...SOON)).suspensionMs);
    }
    const met = name === 'idle' ? median(values) < limit : Math.max(...values) <= limit;
    const what = `${name}, ${runs} runs`;
    rows.push({ part: 'suspension', what, unit: 'ms', values, target: { text, met } });
  }
}

function completed(result: Move): Move {
  if (result.outcome !== 'completed') throw new Error(`a migration ended as ${result.outcome}`);
  return result;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? sorted[Math.floor(middle)]!
    : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function print(): void {
  const machine = `${os.cpus()[0]?.model.trim()}, ${os.availableParallelism()} cores, Node ${process.version}`;
  if (given.json) {
    const results = rows.map((row) => ({ ...row, median: median(row.values) }));
    process.stdout.write(
      `${JSON.stringify({ machine, sizeMiB, rows: results, notes: [...notes] })}\n`,
    );
    return;
  }
  process.stdout.write(`\n${machine}; guest of ${sizeMiB} MiB where not said otherwise\n\n`);
  process.stdout.write(
    '| part | what | median | min | max | unit | target |\n|---|---|---|---|---|---|---|\n',
  );
  for (const { part, what, unit, values, target } of rows) {
    const figures = [median(values), Math.min(...values), Math.max(...values)].map((v) =>
      v.toFixed(v < 10 ? 1 : 0),
    );
    const wanted = target ? `${target.text}: ${target.met ? 'met' : 'MISSED'}` : '';
    process.stdout.write(`| ${[part, what, ...figures, unit, wanted].map(cell).join(' | ')} |\n`);
  }
  for (const note of notes) process.stdout.write(`\n${note}\n`);
}
