export type LogLevel = 'info' | 'warn' | 'error';

/**
 * One line on stderr. Words from outside may be in it, so control characters (which could forge
 * lines or drive a terminal) are written as spaces.
 */
export function log(level: LogLevel, text: string, about?: string): void {
  const line = `${new Date().toISOString()} ${level}${about ? ` [${about}]` : ''} ${text}`;
  process.stderr.write(`${line.replace(/\p{Cc}/gu, ' ')}\n`);
}
