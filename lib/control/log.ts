import { fstatSync } from 'node:fs';

export type LogLevel = 'info' | 'warn' | 'error';

/** Priorities of syslog(3): what journald reads from `<N>` at the beginning of a line. */
const PRIORITY: Record<LogLevel, number> = { error: 3, warn: 4, info: 6 };

const journal = toJournal(2, process.env.JOURNAL_STREAM);

/**
 * One line on stderr. Words from outside may be in it, so control characters (which could forge
 * lines or drive a terminal) are written as spaces.
 */
export function log(level: LogLevel, text: string, about?: string): void {
  const line = `${journalPriority(level) || stamp(level)}${about ? `[${about}] ` : ''}${text}`;
  process.stderr.write(`${line.replace(/\p{Cc}/gu, ' ')}\n`);
}

/** What a line on stderr begins with when it goes to the journal; empty when it does not. */
export function journalPriority(level: LogLevel): string {
  return journal ? `<${PRIORITY[level]}>` : '';
}

/** The journal keeps the time and the level of a line itself. */
function stamp(level: LogLevel): string {
  return `${new Date().toISOString()} ${level} `;
}

/**
 * True when the file descriptor is the stream that systemd named in JOURNAL_STREAM as
 * "device:inode" (systemd.exec(5)): a shell in between may have sent it elsewhere.
 */
export function toJournal(fd: number, stream: string | undefined): boolean {
  if (!stream) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false; // closed
  }
}
