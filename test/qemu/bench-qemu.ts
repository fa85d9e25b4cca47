import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import { type Bed, GivenUp, type Method, type Mover } from './bench-method.ts';

const PORT = 4444;
const LANES = 2;
const POLL_MS = 5;

interface QemuOptions {
  /** The destination's memory; anonymous if not given. */
  readonly memory?: Method['memory'];
  /** Its compression; one connection without multifd if not given. */
  readonly multifd?: 'none' | 'zstd';
  readonly limits?: Limits;
}

interface Limits {
  /** QEMU's downtime-limit: what it forecasts of a suspension that it begins. */
  readonly maxSuspendMs: number;
  /** A move that takes longer is given up. */
  readonly timeoutMs: number;
}

/** QEMU's own migration over TCP. */
export function byQemu(
  name: string,
  { memory = 'anonymous', ...options }: QemuOptions = {},
): Method {
  return { name, memory, open: (bed) => prepare(bed, options) };
}

async function prepare(bed: Bed, options: QemuOptions): Promise<Mover> {
  const [source, destination] = [bed.source.qmp, bed.destination.qmp];
  for (const qmp of [source, destination]) await configure(qmp, options);
  const uri = `tcp:${bed.network.address}:${PORT}`;
  await destination.execute('migrate-incoming', { uri });
  const move = () => migrate(source, destination, uri, options.limits?.timeoutMs);
  return { pids: [], move, end: async () => {} };
}

async function configure(qmp: QmpClient, { multifd, limits }: QemuOptions): Promise<void> {
  const on = ['events', 'return-path', ...(multifd ? ['multifd'] : [])];
  const capabilities = on.map((capability) => ({ capability, state: true }));
  await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-set-parameters', {
    'max-bandwidth': 0, // none
    ...(multifd && { 'multifd-channels': LANES, 'multifd-compression': multifd }),
    ...(limits && { 'downtime-limit': limits.maxSuspendMs }),
  });
}

async function migrate(
  source: QmpClient,
  destination: QmpClient,
  uri: string,
  timeoutMs: number | undefined,
): Promise<void> {
  const status = Promise.withResolvers<unknown>();
  source.on('MIGRATION', ({ data }) => {
    if (['completed', 'failed', 'cancelled'].includes(`${data?.status}`)) status.resolve(data);
  });
  await source.execute('migrate', { uri });
  // Of one that is just complete, nothing is left to be cancelled.
  const cancel = () => source.execute('migrate_cancel').catch(() => {});
  const timer = timeoutMs === undefined ? undefined : setTimeout(cancel, timeoutMs);
  await status.promise;
  clearTimeout(timer);
  const { status: end, 'error-desc': why } =
    await source.execute<Record<string, unknown>>('query-migrate');
  if (end === 'cancelled') throw new GivenUp(`did not converge in ${timeoutMs! / 1000} s`);
  if (end !== 'completed') throw new Error(`QEMU's own migration ${end}: ${why}`);
  while (!(await destination.execute<{ running: boolean }>('query-status')).running)
    await sleep(POLL_MS);
}
