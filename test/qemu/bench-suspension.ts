import type { Cleanup } from './bench-cleanup.ts';
import { switchoverGap } from './guest/witness.ts';
import { idle } from './guest/workload.ts';
import { QemuMigration } from './migration.ts';

/** The time between two heartbeats, which the gap of a suspension includes. */
export const BEAT_MS = idle.beatMs;

/** A benchmark is no place to roll back. */
const LIMITS = ['--max-suspend-time', '10s', '--pause-below', '300ms'];

/** The heartbeat's gap when a Linux guest moves that does nothing but beat, on loopback, ms. */
export async function idleSuspension(ram: 'files' | 'anonymous', all: Cleanup): Promise<number> {
  await using cleanup = all.part();
  const workload = { ...idle, checkedMiB: 0, md5MiB: 0 };
  const migration = await cleanup.keep(
    () => QemuMigration.prepare({ source: { workload }, destination: { ram } }),
    (made) => made.end(),
  );
  const { outcome, message } = await migration.migrate(...LIMITS);
  if (outcome !== 'completed') throw new Error(`a migration ${outcome}: ${message}`);
  const { source, destination } = migration;
  await destination.console.line(/^beat/, { from: 0 });
  return switchoverGap(source.site.console, destination.console).hostMs;
}
