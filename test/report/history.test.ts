import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { history, pruneLedgers } from '../../lib/report/history.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { LIMITS } from '../api/fake-backend.ts';

const HOUR = 3_600_000;
const NOW = Date.parse('2026-03-01T00:00:00Z');
const NONE = () => false;

let dir = '';
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-history-'));
  fs.mkdirSync(path.join(dir, 'ledgers'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const file = (id: string) => path.join(dir, 'ledgers', `${id}.ndjson`);

/** A ledger that was last written to so long ago. */
function ledger(id: string, agoMs: number, { guest = 'vm1', outcome = 'completed', filler = 0 }) {
  const time = new Date(NOW - agoMs).toISOString();
  const start = {
    ...{ type: 'start', at: 0, time, id, guest, destination: 'hostb:7070', source: 'hosta' },
    ...{ by: 'root', hypervisor: 'simulated', policy: 'contract', limits: LIMITS },
    ...{ bandwidth: undefined, totalPages: 16, lanes: 1, verify: false, compression: 'auto' },
  } as const;
  const suspension = {
    ...{ type: 'suspension', at: 900, side: 'destination', estimate: undefined, limitMs: 300 },
    ...{ parts: {}, agentMs: 40, guestMs: 42, clock: 'monotonic' },
  } as const;
  const end = {
    ...{ type: 'end', at: 1000, outcome, code: undefined, message: 'so it went', rounds: 1 },
    ...{ pages: 16, wireBytes: 5, encodings: { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 } },
  };
  const notes = Array.from({ length: filler }, () => ({
    type: 'note',
    at: 1,
    text: 'x'.repeat(1000),
  }));
  const records = [start, ...notes, suspension, ...(outcome === '' ? [] : [end])];
  const text = (records as LedgerRecord[]).map((record) => `${JSON.stringify(record)}\n`).join('');
  fs.writeFileSync(file(id), text);
  fs.utimesSync(file(id), new Date(NOW - agoMs), new Date(NOW - agoMs));
}

const ids = async (...args: Parameters<typeof history> extends [string, ...infer R] ? R : never) =>
  (await history(dir, ...args)).map(({ id }) => id);

test('the ledgers tell what was, the newest first, however long they are', async () => {
  ledger('aa', 50 * HOUR, { outcome: 'aborted' });
  ledger('bb', HOUR, { guest: 'vm2', filler: 300 });
  ledger('cc', 10 * HOUR, { outcome: '' });
  fs.writeFileSync(file('dd'), 'no ledger\n');
  expect(await ids(NONE)).toEqual(['bb', 'cc', 'aa']);
  const [bb] = await history(dir, NONE);
  expect(bb).toMatchObject({
    ...{ guest: 'vm2', source: 'hosta', destination: 'hostb:7070', by: 'root' },
    ...{ outcome: 'completed', ms: 1000, suspensionMs: 42, limitMs: 300, message: 'so it went' },
  });
  expect(await ids(NONE, { since: NOW - 48 * HOUR })).toEqual(['bb', 'cc']);
  expect(await ids(NONE, { guest: 'vm1' })).toEqual(['cc', 'aa']);
  expect(await ids(NONE, { outcome: 'aborted' })).toEqual(['aa']);
  expect(await ids(NONE, { outcome: 'interrupted' })).toEqual(['cc']);
  expect(await ids((id) => id === 'cc', { outcome: 'running' })).toEqual(['cc']);
  expect(await ids(NONE, { limit: 1 })).toEqual(['bb']);
  expect(await history(path.join(dir, 'none'), NONE)).toEqual([]);
});

test('ledgers go by age and by size, never one of a migration that is open', async () => {
  for (const [id, ago] of [
    ['aa', 100],
    ['bb', 90],
    ['cc', 10],
    ['dd', 5],
  ] as const)
    ledger(id, ago * HOUR, { filler: 10 });
  const isOpen = (id: string) => id === 'aa';
  const prune = (keepMs?: number, keepBytes?: number) =>
    pruneLedgers(dir, isOpen, { keepMs, keepBytes }, NOW);
  expect(await prune()).toEqual([]);
  expect(await prune(48 * HOUR)).toEqual(['bb']);
  const { size } = fs.statSync(file('dd'));
  expect(await prune(undefined, size + 100)).toEqual(['cc']);
  expect(fs.readdirSync(path.join(dir, 'ledgers')).sort()).toEqual(['aa.ndjson', 'dd.ndjson']);
});
