import { log } from './log.ts';
import type { Notifier } from './notify.ts';
import { EXIT } from './view.ts';

/** A daemon that serves. */
export interface Daemon {
  /** What it does, for `systemctl status`. */
  readonly status: string;
  stop(): Promise<void>;
}

/**
 * Runs a daemon until SIGTERM or SIGINT, which end it cleanly; a second one ends it at once.
 * Resolves to the exit code.
 */
export async function untilStopped(daemon: Daemon, notifier: Notifier): Promise<number> {
  const stopped = new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name));
  });
  notifier.ready(daemon.status);
  const signal = await stopped;
  log('info', `${signal}: finishing`);
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.on(name, () => process.exit(EXIT.failed));
  notifier.stopping();
  await daemon.stop();
  log('info', 'stopped');
  // Listeners, timers and sockets are gone; the signal handlers alone do not keep the process.
  return EXIT.completed;
}
