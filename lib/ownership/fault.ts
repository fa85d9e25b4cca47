/** How long `block` keeps the main thread, ms. */
const BLOCK_MS = 1500;

/**
 * A place at which a test may end or stop this process, or keep its main thread from everything else for
 * a while: `GODWIT_FAULT=kill@source.after.send-commit`, `stop@…` or `block@…`, honoured once and only
 * when NODE_ENV is "test".
 */
const [fault, place] =
  process.env.NODE_ENV === 'test' ? (process.env.GODWIT_FAULT ?? '').split('@') : [];
let due = place !== undefined;

/** Dies, stands still or is blocked here when a test wants it to. */
export function faultPoint(name: string): void {
  if (!due || name !== place) return;
  due = false;
  if (fault === 'block') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCK_MS);
  else process.kill(process.pid, fault === 'stop' ? 'SIGSTOP' : 'SIGKILL');
}
