/**
 * A place at which a test may end or stop this process: `GODWIT_FAULT=kill@source.after.send-commit`
 * or `stop@…`, honoured once and only when NODE_ENV is "test".
 */
const [signal, place] =
  process.env.NODE_ENV === 'test' ? (process.env.GODWIT_FAULT ?? '').split('@') : [];
let due = place !== undefined;

/** Dies or stands still here when a test wants it to. */
export function faultPoint(name: string): void {
  if (!due || name !== place) return;
  due = false;
  process.kill(process.pid, signal === 'stop' ? 'SIGSTOP' : 'SIGKILL');
}
