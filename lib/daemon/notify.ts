import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { log } from '../log.ts';

/** Each line that it reads is a notification of its own. */
const RELAY = 'while IFS= read -r assignment; do systemd-notify "$assignment"; done';

type Environment = Record<string, string | undefined>;

/**
 * Tells the service manager how the daemon is, by sd_notify(3). Node cannot send a datagram to a
 * Unix socket, so `systemd-notify` does; the unit says NotifyAccess=all because it comes from there.
 * A shell that is started once runs it: forking the agent itself would stop its event loop for
 * some 12 ms with 200 MB in memory, and a suspension may be on. The shell ends with the agent,
 * which holds its stdin. Without a service manager nothing is started.
 */
export class Notifier {
  readonly #relay: ChildProcessByStdio<Writable, null, null> | undefined;
  readonly #watchdogMs: number;

  /** Takes the variables out of the environment: guests are no part of this service. */
  constructor(env: Environment = process.env, pid = process.pid) {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = String(pid) } = env;
    this.#relay = NOTIFY_SOCKET ? startRelay(env) : undefined;
    this.#watchdogMs = WATCHDOG_PID === String(pid) ? Number(WATCHDOG_USEC ?? 0) / 1000 : 0;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  }

  /**
   * The daemon serves. From now on it feeds the watchdog twice in its time, by a timer of the main
   * thread: when the event loop stands still, so does the feeding. It goes on until the process
   * ends, and does not keep it.
   */
  ready(status: string): void {
    this.status(status);
    this.#tell('READY=1');
    if (this.#relay === undefined || !(this.#watchdogMs > 0)) return;
    setInterval(() => this.#tell('WATCHDOG=1'), this.#watchdogMs / 2).unref();
  }

  /** What it does, for `systemctl status`. */
  status(text: string): void {
    this.#tell(`STATUS=${text.replace(/\p{Cc}/gu, ' ')}`);
  }

  /** The daemon has begun to end. */
  stopping(): void {
    this.#tell('STOPPING=1');
    this.#tell('STATUS=finishing');
  }

  #tell(assignment: string): void {
    this.#relay?.stdin.write(`${assignment}\n`);
  }
}

/** What goes wrong with the tool, it says itself: stderr is the agent's. */
function startRelay(env: Environment) {
  const relay = spawn('/bin/sh', ['-c', RELAY], {
    env,
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true, // a signal to the agent's process group must not keep STOPPING=1 back
  });
  const failed = ({ message }: Error) => log('warn', `cannot notify systemd: ${message}`);
  relay.once('error', failed);
  relay.stdin.on('error', failed);
  relay.unref();
  (relay.stdin as Writable & { unref(): void }).unref();
  return relay;
}
