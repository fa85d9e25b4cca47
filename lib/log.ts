import { fstatSync } from 'node:fs';

export type LogLevel = 'info' | 'warn' | 'error';

export const LOG_LEVELS: readonly LogLevel[] = ['info', 'warn', 'error'];
export const LOG_FORMATS = ['text', 'json'] as const;

/** What is logged, and how. */
export interface Logging {
  /** What is less than this is left out. */
  readonly level: LogLevel;
  readonly format: (typeof LOG_FORMATS)[number];
}

let logging: Logging = { level: 'info', format: 'text' };

/** From here on, in this thread. */
export function setLogging(next: Logging): void {
  logging = next;
}

/** Priorities of syslog(3): what journald reads from `<N>` at the beginning of a line. */
const PRIORITY: Record<LogLevel, number> = { error: 3, warn: 4, info: 6 };

const journal = toJournal(2, process.env.JOURNAL_STREAM);

/**
 * One line on stderr. Words from outside may be in it, so control characters (which could forge
 * lines or drive a terminal) are written as spaces.
 */
export function log(level: LogLevel, text: string, about?: string): void {
  if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(logging.level)) return;
  const line = logging.format === 'json' ? object(level, text, about) : words(level, text, about);
  process.stderr.write(`${line.replace(/\p{Cc}/gu, ' ')}\n`);
}

function words(level: LogLevel, text: string, about?: string): string {
  return `${journalPriority(level) || stamp(level)}${about ? `[${about}] ` : ''}${text}`;
}

/** `{"time","level","about","text"}`; for the journal with its priority in front. */
function object(level: LogLevel, text: string, about?: string): string {
  const time = new Date().toISOString();
  return `${journalPriority(level)}${JSON.stringify({ time, level, about, text })}`;
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
