import { execFile } from 'node:child_process';
import { log } from './log.ts';

/**
 * Longest wait for one notification, ms: the tool waits until the service manager has read it, and
 * gives up on its own after 5 s.
 */
const TOOL_MS = 10_000;

/** What systemd(1) tells a service that it wants to hear from. */
type Environment = Record<string, string | undefined>;

/**
 * Tells the service manager how the daemon is, by sd_notify(3). Node cannot send a datagram to a
 * Unix socket, so every notification is one short run of `systemd-notify`; the unit says
 * NotifyAccess=all because it comes from a child. Without a service manager nothing is run.
 */
export class Notifier {
  readonly #socket: string | undefined;
  readonly #watchdogMs: number | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #complained = false;

  /** Takes the variables out of the environment: guests are no part of this service. */
  constructor(env: Environment = process.env, pid = process.pid) {
    this.#socket = env.NOTIFY_SOCKET || undefined;
    const mine = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(pid);
    const micros = mine ? Number(env.WATCHDOG_USEC) : 0;
    this.#watchdogMs = micros > 0 ? micros / 1000 : undefined;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  }

  /**
   * The daemon serves. From now on the watchdog is fed twice in its time, by a timer of the main
   * thread: when the event loop stands still, so does the feeding.
   */
  async ready(status: string): Promise<void> {
    await this.#send('READY=1', `STATUS=${status}`);
    if (this.#socket === undefined || this.#watchdogMs === undefined) return;
    this.#watchdog = setInterval(() => void this.#send('WATCHDOG=1'), this.#watchdogMs / 2);
    this.#watchdog.unref();
  }

  /** The daemon ends; what it still does is not watched by the watchdog but by TimeoutStopSec. */
  async stopping(): Promise<void> {
    clearInterval(this.#watchdog);
    await this.#send('STOPPING=1', 'STATUS=finishing');
  }

  /** Never rejects: a daemon that cannot notify does its work all the same. */
  #send(...assignments: string[]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.#socket === undefined) return Promise.resolve();
    const env = { ...process.env, NOTIFY_SOCKET: this.#socket };
    execFile('systemd-notify', assignments, { env, timeout: TOOL_MS }, (error) => {
      if (error) this.#complain(error);
      resolve();
    });
    return promise;
  }

  /** Once: a service manager that hears nothing says the rest. */
  #complain(error: Error): void {
    if (this.#complained) return;
    this.#complained = true;
    log('warn', `the service manager cannot be notified: ${error.message}`);
  }
}
