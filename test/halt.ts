import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** True while that process is stopped by a signal, with all its threads. */
export function standsStill(pid: number): boolean {
  try {
    return fs
      .readdirSync(`/proc/${pid}/task`)
      .every((tid) =>
        /^\d+ \(.*\) T/.test(fs.readFileSync(`/proc/${pid}/task/${tid}/stat`, 'latin1')),
      );
  } catch {
    return false; // gone in this moment
  }
}

/**
 * Stops a process as SIGSTOP does, and waits until none of its threads runs: a signal has only been
 * sent when `kill` returns, and a process that still runs on another core may answer once more.
 */
export async function halt(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  for (const end = performance.now() + 30_000; !standsStill(pid); await sleep(1))
    if (performance.now() > end) throw new Error(`process ${pid} does not stand still`);
}
