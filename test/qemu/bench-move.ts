import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Network, until } from '../e2e/hosts.ts';
import type { Cleanup } from './bench-cleanup.ts';
import { copyContent } from './bench-content.ts';
import { processorSeconds, wireBytes } from './bench-costs.ts';
import { Machine } from './bench-machine.ts';
import type { Bed, Method, Mover } from './bench-method.ts';
import { SuspensionWatch } from './bench-watch.ts';
import { compareRamFiles } from './guest/ram-files.ts';

/** What one move has cost. */
export interface Costs {
  /** From the command until the guest runs at its destination and the source has let go of it. */
  readonly seconds: number;
  /** Both directions, as the network card has counted them. */
  readonly wireBytes: number;
  /** Of both QEMUs and, with Godwit, both agents. */
  readonly processorSeconds: number;
  /** From STOP at the source to RESUME at the destination. */
  readonly suspensionMs: number;
}

/** What the firmware still writes while it does nothing: its clock. */
const FIRMWARE_PAGES = 16;

export interface MoveOptions {
  readonly network: Network;
  /** A file with what the guest has in its memory. */
  readonly content: string;
  readonly cleanup: Cleanup;
}

/** Moves a guest that does nothing between two QEMUs, one of which waits for it. */
export async function move(method: Method, options: MoveOptions): Promise<Costs> {
  await using cleanup = options.cleanup.part();
  const bed = await prepare(method, { ...options, cleanup });
  const mover = await cleanup.keep(
    () => method.open(bed),
    (made) => made.end(),
  );
  const costs = await measure(bed, mover);
  await check(bed);
  return costs;
}

async function prepare(method: Method, { network, content, cleanup }: MoveOptions): Promise<Bed> {
  const [dir, memoryDir] = [newDir(cleanup), newDir(cleanup, '/dev/shm')];
  const memoryBytes = fs.statSync(content).size;
  const start = (side: 'source' | 'destination', ram: string | undefined) => {
    const place = path.join(dir, side);
    fs.mkdirSync(place, { mode: 0o700 });
    const options = { dir: place, prefix: network[side], memoryBytes, ram };
    const incoming = side === 'destination';
    return cleanup.keep(
      () => Machine.start({ ...options, incoming }),
      (machine) => machine.end(),
    );
  };
  const files = ['source', 'destination'].map((side) => path.join(memoryDir, `${side}.ram`));
  copyContent(content, files[0]!);
  const source = await start('source', files[0]);
  const arrival = method.memory === 'file' ? files[1] : undefined;
  return { dir, memoryDir, network, source, destination: await start('destination', arrival) };
}

/** A directory that goes with what is cleaned up. */
export function newDir(cleanup: Cleanup, parent = os.tmpdir()): string {
  const dir = fs.mkdtempSync(path.join(parent, 'godwit-bench-'));
  cleanup.defer(() => fs.rmSync(dir, { recursive: true }));
  return dir;
}

/** Stops for nothing while the guest moves: who listens to it hears it in time. */
export async function measure({ source, destination }: Bed, mover: Mover): Promise<Costs> {
  const watch = new SuspensionWatch(source.qmp);
  watch.watchDestination(destination.qmp);
  const pids = [source.process.pid!, destination.process.pid!, ...mover.pids];
  const wire = wireBytes(destination.process.pid!); // the source may be gone at the end
  const processor = processorSeconds(pids);
  const started = performance.now();
  await mover.move();
  const seconds = (performance.now() - started) / 1000;
  await until(() => watch.eventsMs !== undefined, 'the guest was suspended and resumed');
  return {
    seconds,
    processorSeconds: processorSeconds(pids) - processor,
    wireBytes: wireBytes(destination.process.pid!) - wire,
    suspensionMs: watch.eventsMs!,
  };
}

/** Where it can be seen from outside, what has arrived is what was there. */
async function check({ source, destination }: Bed): Promise<void> {
  if (destination.ram === undefined) return;
  await destination.qmp.execute('stop');
  const differing = compareRamFiles(source.ram!, destination.ram);
  if (differing.length > FIRMWARE_PAGES) throw new Error(`${differing.length} pages went wrong`);
}
