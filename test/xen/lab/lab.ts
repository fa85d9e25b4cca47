import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Scenario } from './attempt.ts';
import { Bed } from './bed.ts';
import { bench } from './bench.ts';
import { PARTS, XenHost } from './host.ts';
import { installInto } from './install.ts';
import { SCENARIOS } from './scenarios.ts';

/*
 * npm run lab:xen [-- [--only NAME]… [--list] [--bench]]
 *
 * Moves a guest between two hosts with real Xen and real xl, each in a QEMU of its own, with the project's
 * package installed in dom0 and the guest's own heartbeat as the witness; --bench moves one beside
 * xl's own bytes over a pipe instead. The hosts are built first where they are not there (.ci/xen, some
 * minutes, as root). Exits with 1 when a scenario fails.
 */
const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    bench: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});

/** Of a guest that is measured: it writes so much before each beat. */
const BENCH_KB = 128;

interface Line {
  readonly name: string;
  readonly seconds: number;
  readonly failed: boolean;
  readonly note: string;
}

if (values.list) {
  for (const { name, what } of SCENARIOS) console.log(`${name.padEnd(16)} ${what}`);
  process.exit(0);
}
const unknown = values.only?.find((name) => !SCENARIOS.some((one) => one.name === name));
if (unknown !== undefined) {
  console.error(`there is no scenario "${unknown}"; --list shows them`);
  process.exit(2);
}
const named = (name: string) => SCENARIOS.find((one) => one.name === name)!;
const AGAIN = named('plain');
process.exitCode = await main(values.only?.map(named) ?? SCENARIOS);

async function main(scenarios: readonly Scenario[]): Promise<number> {
  if (!fs.existsSync(`${PARTS}/dom0.cpio.gz`))
    execFileSync(path.join(import.meta.dirname, '../../../.ci/xen'), { stdio: 'inherit' });
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-xen-lab-'));
  const hosts: XenHost[] = [];
  const end = () => {
    for (const host of hosts) host.end();
    fs.rmSync(dir, { recursive: true, force: true });
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      end();
      process.exit(130);
    });
  try {
    const beganMs = performance.now();
    const initrd = installInto(dir);
    console.log(`the package is installed in dom0, after ${since(beganMs)}`);
    for (const name of ['hosta', 'hostb'] as const)
      hosts.push(await XenHost.start(name, dir, initrd));
    await Promise.all(hosts.map((host) => host.booted()));
    const bed = new Bed([hosts[0]!, hosts[1]!]);
    await bed.startAgents();
    console.log(`two Xen hosts with agents, after ${since(beganMs)}`);
    if (values.bench) {
      console.log(`\n${await bench(bed, BENCH_KB)}`);
      bed.end();
      return 0;
    }
    const lines: Line[] = [];
    // Whatever has become of one attempt, the next one is one more; the last one has to move the guest.
    for (const scenario of scenarios) lines.push(await play(scenario, bed));
    if (scenarios.at(-1) !== AGAIN) lines.push(await play(AGAIN, bed));
    bed.end();
    console.log(`\n${table(lines)}`);
    return lines.some(({ failed }) => failed) ? 1 : 0;
  } finally {
    end();
  }
}

async function play({ name, what, run }: Scenario, bed: Bed): Promise<Line> {
  console.log(`${name}: ${what}`);
  const beganMs = performance.now();
  const line = (failed: boolean, note: string): Line => {
    const seconds = (performance.now() - beganMs) / 1000;
    console.log(`  ${failed ? 'FAILED' : 'ok'} after ${seconds.toFixed(0)} s: ${note}`);
    return { name, seconds, failed, note: note.split('\n')[0]! };
  };
  try {
    return line(false, await run(bed));
  } catch (error) {
    const failed = line(true, (error as Error).stack ?? String(error));
    await bed.renew(); // nothing of it is to be in the way of the next one
    return failed;
  }
}

function table(lines: readonly Line[]): string {
  const width = Math.max(...lines.map(({ name }) => name.length));
  return lines
    .map(({ name, seconds, failed, note }) => {
      const took = `${seconds.toFixed(0)} s`.padStart(6);
      return `${name.padEnd(width)}  ${failed ? 'FAILED' : 'ok    '}  ${took}  ${note}`;
    })
    .join('\n');
}

function since(beganMs: number): string {
  return `${((performance.now() - beganMs) / 1000).toFixed(0)} s`;
}
