import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { promisify } from 'node:util';
import { poll } from '../poll.ts';

/** The kernel's list of sockets, however long, ms. */
const LIST_LIMIT_MS = 2000;
const LIST_BYTES = 16 << 20;
/** A listener takes a connection up, and a child that was just forked lets go of it, in no time, ms. */
const PEER_LIMIT_MS = 2000;
const POLL_MS = 10;

/** A process that is told from a later one with the same pid by when it was started. */
export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks since the host was booted: field 22 of `/proc/PID/stat`, proc(5). */
  readonly startTime: number;
  /** The boot of its host, where that is kept: see `bootId`. */
  readonly bootId?: string;
}

/** Identifies this boot of this host: pids and start times count within one. random(4) */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/**
 * The live process that has this pid now; undefined when there is none, or only its exit code. Of a
 * process that is being killed the first thread may be dead (Z) while others still hold its memory
 * and its sockets.
 */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = looked(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses, with whatever bytes it likes.
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [threads, startTime] = [Number(rest[16]), Number(rest[18])];
  const isDead = (state === 'Z' || state === 'X') && threads <= 1;
  return isDead ? undefined : { pid, startTime };
}

/** Whether that very process lives; none outlives its host's boot. */
export function isAlive({ pid, startTime, bootId: boot }: ProcessIdentity): boolean {
  if (boot !== undefined && boot !== bootId()) return false;
  return identify(pid)?.startTime === startTime;
}

/** Whether a process is that other one, or was started by it, or by one that it has started, and so on. */
export function descends(pid: number, from: number): boolean {
  if (pid === from) return true;
  const stat = looked(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
  return parent > 1 && descends(parent, from);
}

/**
 * The process at the other end of a connected Unix socket, in whatever network namespace it is and
 * whoever has made the socket on which it listens. The kernel is asked about this connection itself
 * (sock_diag, by ss of iproute2); what stands at a path is anybody's to make.
 * @returns undefined when nobody has taken the connection up, more than one process has it, or the
 *   files of the one that has may not be looked at
 * @throws what ss cannot be run for
 */
export async function processBehind(socket: Socket): Promise<ProcessIdentity | undefined> {
  const inode = inodeOf(socket);
  if (inode === undefined) return undefined;
  return poll(PEER_LIMIT_MS, POLL_MS, async () => {
    const peer = await peerOf(inode);
    const [holder, ...others] =
      peer === undefined ? [] : pids().filter((pid) => hasOpen(pid, `socket:[${peer}]`));
    if (holder === undefined || others.length > 0) return undefined;
    return identify(holder);
  });
}

/** Node has no name for a socket's descriptor. */
function inodeOf(socket: Socket): string | undefined {
  const { fd = -1 } = (socket as Socket & { _handle?: { fd?: number } })._handle ?? {};
  return looked(() => /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1]);
}

/**
 * The inode of the socket that this one is connected to. Ours has no name; those that have one may
 * have line breaks in it, and are left out.
 */
async function peerOf(inode: string): Promise<string | undefined> {
  const { stdout } = await promisify(execFile)('ss', ['-xnH', 'not', 'src', '=', 'unix:?*'], {
    timeout: LIST_LIMIT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: LIST_BYTES,
  });
  // Netid State Recv-Q Send-Q Local-Name Inode Peer-Name Inode; an inode of 0 has not been taken up
  const line = new RegExp(`^u_str +ESTAB +\\d+ +\\d+ +\\* ${inode} +\\* ([1-9]\\d*) *$`, 'm');
  return line.exec(stdout)?.[1];
}

/** Of all processes there are. */
export function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Whether a process has this open, as the links of its descriptors name it. proc(5) */
export function hasOpen(pid: number, link: string): boolean {
  const dir = `/proc/${pid}/fd`;
  const fds = looked(() => readdirSync(dir)) ?? [];
  return fds.some((fd) => looked(() => readlinkSync(`${dir}/${fd}`)) === link);
}

/** Undefined for what has just ended or been closed, and for what belongs to another user. */
export function looked<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
