import { isDeepStrictEqual } from 'node:util';
import type { Crew, Task } from '../../crew/crew.ts';
import { GodwitError } from '../../errors.ts';
import { within } from '../../poll.ts';
import { type BootProcess, inThisBoot } from '../handle.ts';
import type { ProcessIdentity } from '../process-identity.ts';
import {
  INGEST,
  type IngestData,
  type IngestRequests,
  type Prologue,
} from '../push/ingest-protocol.ts';
import { movable } from '../run-state.ts';
import { cpuFeatures } from './cpu-features.ts';
import type { GuestDefinition } from './definition.ts';
import type { KeptSettings } from './kept-settings.ts';
import { QemuMigration, type SettingsKeeper } from './migration.ts';
import { QmpClient } from './qmp.ts';
import { runStateOf } from './run-state.ts';
import { Stops } from './stops.ts';
import { StreamSocket } from './stream-socket.ts';

/** QEMU connects and sends its first bytes at once. */
const PROLOGUE_LIMIT_MS = 10_000;

/** A QEMU that is about to migrate. */
export interface Departing {
  readonly qmp: QmpClient;
  readonly process: BootProcess;
  readonly found: 'running' | 'paused';
  readonly stops: Stops;
  readonly migration: QemuMigration;
}

/** One that migrates into a socket of ours and waits with its first page. */
export interface Outgoing extends Departing {
  /** What its processor has, as `cpuFeatures`. */
  readonly cpu: string;
  readonly ingest: Task<IngestRequests>;
  /** Of the stream's `StreamEnd`. */
  readonly end: SharedArrayBuffer;
  /** Rejects when the stream ends or holds what it should not. */
  readonly failure: PromiseWithResolvers<never>;
  readonly prologue: Prologue;
}

/**
 * Has the QEMU of a definition begin to migrate into a socket of ours. Whatever was done is undone when
 * this rejects; else the caller ends it.
 * @param kept what QEMU was set to before is kept there as long as it is changed
 * @param before called when QEMU is set for it and does not migrate yet; what it throws ends it
 * @throws GodwitError guest-not-running, guest-busy, hypervisor-failed, not-seen, qemu-stream
 */
export async function openOutgoing(
  definition: GuestDefinition,
  crew: Crew,
  kept: KeptSettings | undefined,
  before?: (departing: Departing) => Promise<void>,
): Promise<Outgoing> {
  const qmp = await QmpClient.connect(definition.qmp);
  let ingest: Task<IngestRequests> | undefined;
  let migration: QemuMigration | undefined;
  let socket: StreamSocket | undefined;
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  try {
    const stops = new Stops(qmp);
    const identifying = qmp.process();
    const features = cpuFeatures(qmp);
    for (const asked of [identifying, features]) asked.catch(() => {}); // waited for below
    const { status } = await qmp.execute<{ status: string }>('query-status');
    const found = movable(definition.name, runStateOf(status));
    if (found === 'paused') stops.stands();
    const process = inThisBoot(await identifying);
    const keeper = kept && keeperOf(kept, definition, process);
    migration = await QemuMigration.prepare(qmp, keeper);
    const departing = { qmp, process, found, stops, migration };
    const cpu = await features;
    await before?.(departing);
    socket = new StreamSocket(definition.qmp);
    const end = new SharedArrayBuffer(4);
    const data: IngestData = { path: socket.listenPath, end };
    ingest = crew.begin<IngestRequests>(INGEST, data, failure.reject);
    const prologue = await begin(definition, process, migration, ingest, socket);
    return { ...departing, cpu, ingest, end, failure, prologue };
  } catch (error) {
    await ingest?.stop();
    await migration?.cancel().catch(() => {});
    await migration?.restore().catch(() => {});
    qmp.close();
    throw error;
  } finally {
    socket?.remove(); // QEMU has connected, or is not to any more
  }
}

/** What another QEMU of that name was set to is nothing to this one. */
function keeperOf(
  kept: KeptSettings,
  { name, qmp: socket }: GuestDefinition,
  process: BootProcess,
): SettingsKeeper {
  const known = kept.of(name);
  return {
    before: isDeepStrictEqual(known?.process, process) ? known?.settings : undefined,
    keep: (settings) => kept.keep(name, { process, socket, settings }),
    forget: () => kept.forget(name),
  };
}

/** Up to QEMU's list of RAM blocks. */
async function begin(
  definition: GuestDefinition,
  process: ProcessIdentity,
  migration: QemuMigration,
  ingest: Task<IngestRequests>,
  socket: StreamSocket,
): Promise<Prologue> {
  await ingest.request('listen', undefined);
  socket.giveTo(process); // QEMU may run as another user
  await migration.start(socket.path);
  const late = () =>
    new GodwitError('not-seen', `QEMU of guest ${definition.name} does not migrate`);
  return within(PROLOGUE_LIMIT_MS, ingest.request('prologue', undefined), late);
}
