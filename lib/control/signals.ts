import { log } from './log.ts';
import { EXIT } from './view.ts';

/**
 * Runs a daemon until SIGTERM or SIGINT, which end it cleanly; a second one ends it at once.
 * Resolves to the exit code.
 */
export async function untilStopped(daemon: { stop(): Promise<void> }): Promise<number> {
  const signal = await new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name));
  });
  log('info', `${signal}: finishing`);
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.on(name, () => process.exit(EXIT.failed));
  await daemon.stop();
  log('info', 'stopped');
  // Listeners, timers and sockets are gone; the signal handlers alone do not keep the process.
  return EXIT.completed;
}
