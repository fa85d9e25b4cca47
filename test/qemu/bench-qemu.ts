import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import type { Bed, Method, Mover } from './bench-method.ts';

const PORT = 4444;
const LANES = 2;
const POLL_MS = 5;

interface QemuOptions {
  /** The destination's memory; anonymous if not given. */
  readonly memory?: Method['memory'];
  /** Its compression; one connection without multifd if not given. */
  readonly multifd?: 'none' | 'zstd';
}

/** QEMU's own migration over TCP. */
export function byQemu(name: string, { memory = 'anonymous', multifd }: QemuOptions = {}): Method {
  return { name, memory, open: (bed) => prepare(bed, multifd) };
}

async function prepare(bed: Bed, multifd: QemuOptions['multifd']): Promise<Mover> {
  const [source, destination] = [bed.source.qmp, bed.destination.qmp];
  for (const qmp of [source, destination]) await configure(qmp, multifd);
  const uri = `tcp:${bed.network.address}:${PORT}`;
  await destination.execute('migrate-incoming', { uri });
  return { pids: [], move: () => migrate(source, destination, uri), end: async () => {} };
}

async function configure(qmp: QmpClient, multifd: QemuOptions['multifd']): Promise<void> {
  const on = ['events', 'return-path', ...(multifd ? ['multifd'] : [])];
  const capabilities = on.map((capability) => ({ capability, state: true }));
  await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-set-parameters', {
    'max-bandwidth': 0, // none
    ...(multifd && { 'multifd-channels': LANES, 'multifd-compression': multifd }),
  });
}

async function migrate(source: QmpClient, destination: QmpClient, uri: string): Promise<void> {
  const status = Promise.withResolvers<unknown>();
  source.on('MIGRATION', ({ data }) => {
    if (['completed', 'failed', 'cancelled'].includes(`${data?.status}`)) status.resolve(data);
  });
  await source.execute('migrate', { uri });
  await status.promise;
  const { status: end, 'error-desc': why } =
    await source.execute<Record<string, unknown>>('query-migrate');
  if (end !== 'completed') throw new Error(`QEMU's own migration ${end}: ${why}`);
  while (!(await destination.execute<{ running: boolean }>('query-status')).running)
    await sleep(POLL_MS);
}
