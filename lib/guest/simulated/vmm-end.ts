import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { ControlClient } from './control-client.ts';
import { answers } from './socket-claim.ts';

/** A VMM removes its files and exits in milliseconds; a machine under load gets more. */
const EXIT_LIMIT_MS = 10_000;

/** What must be gone after a VMM. */
export interface VmmRemains {
  readonly pid: number;
  readonly socket: string;
  readonly memory: readonly RegionFile[];
}

/**
 * Ends a VMM and waits until nothing is left of it. One that died by itself could not free its
 * memory, so its files are removed here.
 * @throws GodwitError hypervisor-failed when the process will not end
 */
export async function endVmm(client: ControlClient, remains: VmmRemains): Promise<void> {
  const { pid, socket, memory } = remains;
  let diedBefore = false;
  await client.executeLast('quit').catch((error: GodwitError) => {
    if (error.code !== 'guest-died') throw error;
    diedBefore = true;
  });
  client.close();
  for (const deadline = Date.now() + EXIT_LIMIT_MS; isAlive(pid); await sleep(2)) {
    if (Date.now() > deadline)
      throw new GodwitError('hypervisor-failed', `VMM process ${pid} does not end`);
  }
  if (!diedBefore) return;
  for (const { path } of memory) rmSync(path, { force: true });
  if (!(await answers(socket))) rmSync(socket, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
