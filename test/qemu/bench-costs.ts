import { readFileSync } from 'node:fs';
import { pid as ownPid } from 'node:process';

/** `sysconf(_SC_CLK_TCK)`, the same on every Linux that runs QEMU guests. */
const TICKS_PER_SECOND = 100;

/** Bytes that have gone either way over the card of the network namespace in which that process is. */
export function wireBytes(pid: number): number {
  const table = readFileSync(`/proc/${pid}/net/dev`, 'latin1');
  const line = /veth0: *(.*)/.exec(table);
  const numbers = line![1]!.split(/ +/).map(Number);
  return numbers[0]! + numbers[8]!;
}

/**
 * Seconds of processor time that the processes have used so far, and all children of this one that
 * have ended: a process may end between two looks, and its time is not lost. Only differences count.
 */
export function processorSeconds(pids: readonly number[]): number {
  const ended = ticks(ownPid, 'children');
  const alive = pids.map((pid) => ticks(pid, 'own'));
  return alive.reduce((sum, own) => sum + own, ended) / TICKS_PER_SECOND;
}

/** Fields 14 to 17 of `/proc/PID/stat`, proc(5); nothing for a process that is gone. */
function ticks(pid: number, whose: 'own' | 'children'): number {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return 0;
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const first = whose === 'own' ? 11 : 13;
  return Number(fields[first]) + Number(fields[first + 1]);
}
