import path from 'node:path';
import type { Network } from '../e2e/hosts.ts';
import type { Cleanup } from './bench-cleanup.ts';
import { copyContent } from './bench-content.ts';
import { type Bed, GivenUp, type Method, type Qemu } from './bench-method.ts';
import { type Costs, measure, newDir } from './bench-move.ts';
import type { GuestShape } from './guest/command-line.ts';
import { LinuxGuest } from './guest/linux-guest.ts';
import type { ConsoleLine } from './guest/serial-console.ts';
import { beatsIn, fullCheck, longestGap, verdict } from './guest/witness.ts';
import { busy } from './guest/workload.ts';

/** What a move of a busy guest has cost. */
export interface BusyCosts extends Costs {
  /** Longest time without a heartbeat, from the command until a second after the move, as it was heard here. */
  readonly gapMs: number;
  /** Pages that the guest wrote a second meanwhile: a way that takes its time has less to send again. */
  readonly pagesPerSecond: number;
}

/**
 * The same for all: Godwit's --max-suspend-time and QEMU's downtime-limit, either's default; and when a
 * move is given up. That is more than ten times what the memory takes at 1 Gbit/s.
 */
export const LIMITS = { maxSuspendMs: 300, timeoutMs: 60_000 };
/** A third of what 1 Gbit/s carries, so that a way that fills the link leaves some tens of MB at most. */
export const PAGES_PER_SECOND = 10_000;
const BEATS_PER_SECOND = 1000 / busy.beatMs;

export type BusyShape = Pick<GuestShape, 'memoryMiB' | 'wholeBlocks' | 'workload'>;

/**
 * A quarter of its memory is written again and again. The block is whole, since a QEMU that stops the guest
 * whenever it looks for dirty pages would hide the gap that the move makes.
 */
export function busyShape(memoryMiB: number): BusyShape {
  const written = { checkedMiB: memoryMiB / 4, dirtyPagesPerSecond: PAGES_PER_SECOND };
  return { memoryMiB, wholeBlocks: true, workload: { ...busy, ...written, md5MiB: 0 } };
}

export interface BusyMoveOptions {
  readonly network: Network;
  readonly shape: BusyShape;
  /** A file with what is in memory that the guest does not use; as large as its memory. */
  readonly content: string;
  readonly cleanup: Cleanup;
}

/**
 * Moves a Linux guest that writes memory all the time; its witness finds nothing wrong afterwards.
 * Resolves with why, when it was given up.
 */
export async function moveBusy(
  method: Method,
  options: BusyMoveOptions,
): Promise<BusyCosts | GivenUp> {
  await using cleanup = options.cleanup.part();
  const { source, destination, bed } = await prepare(method, { ...options, cleanup });
  const mover = await cleanup.keep(
    () => method.open(bed),
    (made) => made.end(),
  );
  const started = performance.now();
  const costs = await measure(bed, mover).catch((error: unknown) => {
    if (error instanceof GivenUp) return error;
    throw error;
  });
  if (costs instanceof GivenUp) return costs;
  const consoles = [source.site.console, destination.site.console] as const;
  await consoles[1].line(/^beat/, { from: 0, count: BEATS_PER_SECOND });
  const meanwhile = consoles.flatMap(({ lines }) => lines.filter(({ at }) => at >= started));
  const { hostMs: gapMs } = longestGap(beatsIn(meanwhile));
  await fullCheck(destination.site);
  const { clean, bad } = verdict(...consoles);
  if (!clean) throw new Error(`${method.name} has harmed its guest: ${bad.join('; ')}`);
  const last = consoles[0].lines.filter(({ at }) => at < started);
  return { ...costs, gapMs, pagesPerSecond: writtenPerSecond(last, consoles[1].lines) };
}

async function prepare(method: Method, { network, shape, content, cleanup }: BusyMoveOptions) {
  const start = (options: Parameters<typeof LinuxGuest.start>[0]) =>
    cleanup.keep(
      () => LinuxGuest.start(options),
      (guest) => guest.end(),
    );
  const source = await start({
    ...shape,
    ram: 'files',
    fill: (ramFile) => copyContent(content, ramFile),
    prefix: network.source,
  });
  await source.booted();
  const destination = await start({
    origin: source,
    runsOnArrival: true,
    ram: method.memory === 'file' ? 'files' : 'anonymous',
    prefix: network.destination,
  });
  const ends = { source: qemuOf(source), destination: qemuOf(destination) };
  const { ram } = ends.destination;
  const memoryDir = ram === undefined ? newDir(cleanup, '/dev/shm') : path.dirname(ram);
  const bed: Bed = { dir: newDir(cleanup), memoryDir, network, ...ends };
  return { source, destination, bed };
}

function qemuOf({ qmp, process, site }: LinuxGuest): Qemu {
  return { qmp, process, monitor: site.host.monitor, ram: site.host.ramFiles[0] };
}

/** From the last report before the move to the first after it, by the host's clock. */
function writtenPerSecond(before: readonly ConsoleLine[], after: readonly ConsoleLine[]): number {
  const from = reportsIn(before).at(-1)!;
  const to = reportsIn(after)[0]!;
  return ((to.pages - from.pages) * 1000) / (to.at - from.at);
}

function reportsIn(lines: readonly ConsoleLine[]): { pages: number; at: number }[] {
  return lines.flatMap(({ text, at }) => {
    const pages = /^checked 0: .* (\d+) written$/.exec(text)?.[1];
    return pages === undefined ? [] : [{ pages: Number(pages), at }];
  });
}
