import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A process that is told from a later one with the same pid by when it was started. */
export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks since the host was booted: field 22 of `/proc/PID/stat`, proc(5). */
  readonly startTime: number;
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

/** Whether that very process lives. */
export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  return identify(pid)?.startTime === startTime;
}

/**
 * The process that listens on a Unix socket, in whatever network namespace: QMP does not tell.
 * Undefined when none or more than one does (a socket file that was replaced), or its files may not
 * be looked at.
 */
export function processBehind(socket: string): ProcessIdentity | undefined {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const [link, ...others] = unixTables(pids).flatMap((table) => listeners(table, socket));
  if (link === undefined || others.length > 0) return undefined;
  const pid = pids.find((candidate) => holds(candidate, link));
  return pid === undefined ? undefined : identify(Number(pid));
}

/** The sockets of each network namespace that a process is in. */
function unixTables(pids: readonly string[]): string[] {
  const namespaces = new Map<string, string>();
  for (const pid of pids) {
    const namespace = looked(() => readlinkSync(`/proc/${pid}/ns/net`));
    if (namespace !== undefined) namespaces.set(namespace, pid);
  }
  const tables = [...namespaces.values()].map((pid) =>
    looked(() => readFileSync(`/proc/${pid}/net/unix`, 'utf8')),
  );
  return tables.filter((table) => table !== undefined);
}

/** Listening sockets of this path, as the descriptors of their processes name them. */
function listeners(table: string, socket: string): string[] {
  return table.split('\n').flatMap((line) => {
    // Num RefCount Protocol Flags Type St Inode Path; the flag is __SO_ACCEPTCON of linux/net.h
    const [, flags, inode, path] = /^\S+ \S+ \S+ (\S+) \S+ \S+ +(\d+) (.*)$/.exec(line) ?? [];
    const listens = path === socket && (Number.parseInt(flags!, 16) & 0x10000) !== 0;
    return listens ? [`socket:[${inode}]`] : [];
  });
}

function holds(pid: string, link: string): boolean {
  const dir = `/proc/${pid}/fd`;
  const fds = looked(() => readdirSync(dir)) ?? [];
  return fds.some((fd) => looked(() => readlinkSync(`${dir}/${fd}`)) === link);
}

/** Undefined for what has just ended or been closed, and for what belongs to another user. */
function looked<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
