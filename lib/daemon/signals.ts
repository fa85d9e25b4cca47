import { EXIT } from '../exit.ts';
import { log } from '../log.ts';
import type { Notifier } from './notify.ts';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** A daemon that serves. */
export interface Daemon<Settings> {
  /** What it does, for `systemctl status`. */
  readonly status: string;
  /**
   * Goes on with other settings; what runs keeps those that it began with.
   * @throws GodwitError bad-option for what it cannot take while it runs; then nothing has changed
   */
  reload(settings: Settings): void;
  stop(): Promise<void>;
}

/**
 * SIGHUP ends nothing from here on: neither a terminal that is closed, nor one that comes before
 * `listen` or while the daemon ends. One that has come before is told to whoever listens then.
 */
export class Hangups {
  #listener: (() => void) | undefined;
  #missed = false;

  constructor() {
    process.on('SIGHUP', () => {
      this.#missed = this.#listener === undefined;
      this.#listener?.();
    });
  }

  listen(listener: () => void): void {
    this.#listener = listener;
    if (this.#missed) listener();
  }

  ignore(): void {
    this.#listener = undefined;
  }
}

/**
 * Runs a daemon until SIGTERM or SIGINT, which end it cleanly, or until a fault of its own. A second
 * signal ends it at once. Resolves to the exit code.
 */
export async function untilStopped(
  daemon: Pick<Daemon<never>, 'status' | 'stop'>,
  notifier: Notifier,
  fault: Promise<undefined>,
): Promise<number> {
  const signalled = new Promise<string>((resolve) => {
    for (const name of SIGNALS) process.once(name, () => resolve(name));
  });
  notifier.ready(daemon.status);
  const signal = await Promise.race([signalled, fault]);
  log('info', `${signal ?? 'after a fault'}: finishing`);
  for (const name of SIGNALS) process.on(name, () => process.exit(EXIT.failed));
  notifier.stopping();
  await daemon.stop();
  log('info', 'stopped');
  // Listeners, timers and sockets are gone; the signal handlers alone do not keep the process.
  return signal === undefined ? process.exit(EXIT.internal) : EXIT.completed;
}
