import assert from 'node:assert/strict';
import { type Bed, WIDE } from './bed.ts';
import type { XenHost } from './host.ts';

const NODE = '/usr/lib/godwit/node_modules/.bin/node';

/** How xl's bytes get to the other host. */
const WAYS = [
  { name: 'xl migrate, plain pipe', pipe: 'plain' },
  { name: 'xl migrate, zstd pipe', pipe: 'zstd' },
  { name: 'xl migrate, agents', pipe: undefined },
] as const;

/** Moves a guest once by each way. @returns a line for each: time, bytes on the wire, the longest time without a beat */
export async function bench(bed: Bed, busyKb: number): Promise<string> {
  const lines = [`guest of 96 MiB that writes ${busyKb} KiB a beat, emulated hosts on one machine`];
  for (const { name, pipe } of WAYS) {
    await bed.boot(busyKb);
    const { source, destination } = bed;
    const before = await sentBy(source);
    const move = pipe === undefined ? bed.begin(WIDE) : await beginPiped(bed, pipe);
    assert.equal(await move.ended(), 0, `${name}: ${move.said}`);
    const mib = ((await sentBy(source)) - before) / 2 ** 20;
    await bed.mustRunAt(destination);
    const gap = bed.heartbeat.longestGap().ms / 1000;
    const seconds = move.tookMs / 1000;
    lines.push(
      `${name.padEnd(24)}  ${seconds.toFixed(1).padStart(6)} s  ${mib.toFixed(1).padStart(6)} MiB  no beat for ${gap.toFixed(2)} s`,
    );
    console.log(lines.at(-1));
  }
  return lines.join('\n');
}

async function beginPiped(bed: Bed, way: string) {
  const { destination } = bed;
  const pipe = `${NODE} /bin/pipe.ts ${way}`;
  await destination.must(`setsid ${pipe} >/var/log/pipe.log 2>&1 </dev/null &`);
  await destination.until('netstat -ltn | grep -q :7000', `a ${way} pipe listens`);
  return bed.begin('', { transport: pipe });
}

/** Bytes that it has sent over the wire between the hosts. */
async function sentBy(host: XenHost): Promise<number> {
  return Number(await host.must('cat /sys/class/net/eth1/statistics/tx_bytes'));
}
