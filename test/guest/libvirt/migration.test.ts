import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { cookieFor } from '../../../lib/guest/libvirt/cookie.ts';
import { LibvirtMigration } from '../../../lib/guest/libvirt/migration.ts';
import type { LibvirtClient } from '../../../lib/guest/libvirt/rpc/client.ts';

const domain = { name: 'vm', uuid: Buffer.alloc(16), id: 1 };
const cookie = cookieFor({ name: 'vm', uuid: 'u', capabilities: ['switchover-ack'] });
/** Perform3 is answered when the migration has ended, and this one's never is. */
const client = {
  begin: async () => ({ cookie, xml: '<domain/>' }),
  perform: () => new Promise<never>(() => {}),
  abortJob: async () => {},
} as unknown as LibvirtClient;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a libvirt that does not say how a migration ended is not waited for for ever', async () => {
  const migration = await LibvirtMigration.begin(client, domain, { path: '/nowhere/sock' }, {});
  expect(await migration.isThrough()).toBe(false);
  expect(await migration.complaint()).toBeUndefined();
  migration.start(() => {});
  const ended = Promise.allSettled([
    migration.isThrough(),
    migration.complaint(),
    migration.cancel(),
  ]);
  await vi.advanceTimersByTimeAsync(60_000);
  const reason = expect.objectContaining({ code: 'hypervisor-failed' });
  const rejected = { status: 'rejected', reason };
  expect(await ended).toEqual([rejected, rejected, rejected]);
});
