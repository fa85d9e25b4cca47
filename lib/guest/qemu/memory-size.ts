import type { QmpClient } from './qmp.ts';

/** Bytes of memory that the guest has. */
export async function memoryBytesOf(qmp: QmpClient): Promise<number> {
  const memory = await qmp.execute<{ 'base-memory': number; 'plugged-memory'?: number }>(
    'query-memory-size-summary',
  );
  return memory['base-memory'] + (memory['plugged-memory'] ?? 0);
}
