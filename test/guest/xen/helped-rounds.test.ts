import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { HelpedRounds } from '../../../lib/guest/xen/helped-rounds.ts';

test('rounds that are heard of at once do not make more dirty pages than the guest has', async () => {
  const listeners: (() => void)[] = [];
  const transport = {
    helper: { state: 'saves', round: 1, pages: 0 } as const,
    on: (_event: string, listener: () => void) => void listeners.push(listener),
  };
  const read = async () => ({ ended: 0, pages: 0, atMs: 0 });
  const rounds = new HelpedRounds(transport as never, read, 24_576);
  for (const round of [2, 3, 4, 5]) {
    Object.assign(transport, { helper: { state: 'saves', round, pages: 20_000 } });
    for (const heard of listeners) heard();
  }
  Object.assign(transport, { helper: { state: 'asks', round: 5, pages: 20_000 } });
  for (const heard of listeners) heard();
  await sleep(50); // held meanwhile
  await expect.poll(() => rounds.asks).toBe(true);
  expect(rounds.dirtyPages).toBeGreaterThan(0);
  expect(rounds.dirtyPages).toBeLessThanOrEqual(24_576);
});
