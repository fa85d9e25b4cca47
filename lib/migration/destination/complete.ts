import { GodwitError } from '../../errors.ts';
import type { DestinationGuest } from '../../guest/guest.ts';
import type { ReceivePool } from '../../pages/receive-pool.ts';
import type { Arrived, Intake } from './intake.ts';

/** How long memory was read again, and how long the device state took to load once all was here, ms. */
export interface PreparedIn {
  readonly verifyMs: number;
  readonly loadMs: number;
}

/**
 * Takes all pages and the device state as they come: proves memory and loads the state.
 * @throws GodwitError digest-mismatch, verify-mismatch, device-state-invalid, hypervisor-failed
 */
export async function complete(
  guest: DestinationGuest,
  intake: Intake,
  verify: boolean,
): Promise<PreparedIn> {
  const load = async () => {
    await intake.caughtUp();
    await guest.loadDeviceState(intake.state);
  };
  if (verify) {
    // Loading may change memory that is to be read again.
    const arrived = await intake.arrived;
    await compareDigests(arrived);
    const verifyMs = await timed(() => readAgain(intake.pool));
    await intake.stateProven();
    return { verifyMs, loadMs: await timed(load) };
  }
  // The guest stays paused: loading its state before it and memory are proven risks nothing.
  const loading = intake.memoryHere.then(load);
  const arrived = await Promise.race([intake.arrived, loading.then(() => intake.arrived)]);
  await compareDigests(arrived); // wrong memory is the better explanation
  await intake.stateProven();
  return { verifyMs: 0, loadMs: await timed(() => loading) };
}

/** Memory is what the sender has. */
async function compareDigests({ theirs, own }: Arrived): Promise<void> {
  const ours = await own;
  const differs = ours.findIndex((digest, lane) => digest !== theirs[lane]);
  if (ours.length === theirs.length && differs === -1) return;
  throw new GodwitError(
    'digest-mismatch',
    `guest memory differs from the sender's on lane ${Math.max(0, differs)}`,
  );
}

async function readAgain(pool: ReceivePool): Promise<void> {
  const wrong = await pool.verify();
  if (wrong === undefined) return;
  throw new GodwitError(
    'verify-mismatch',
    `page ${wrong} in the destination's memory is not what arrived: check the host's memory`,
  );
}

/** @returns how long it took, ms */
async function timed(work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}
