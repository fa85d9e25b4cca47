import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { Facts } from '../../lib/migration/facts.ts';
import type { LaneTotals } from '../../lib/pages/counters.ts';
import { type PrecopyStats, UNKNOWN, type Verdict } from '../../lib/precopy/stats.ts';
import { LedgerWriter, readLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { afterForecasts } from '../precopy/policy/stats.ts';

const dirs: string[] = [];
const known = { id: '00112233aabbccdd', guest: 'web', peer: 'hostb:7100' };
const silent = new GodwitError('peer-silent', 'nothing was heard');

afterEach(() => {
  for (const dir of dirs.splice(0)) fs.rmSync(dir, { recursive: true });
});

test('the clock and the figures of a migration that has ended stand still', async () => {
  let pages = 3;
  const facts = new Facts({ ...known, role: 'receive', totalPages: 16, onChange: () => {} });
  facts.count(() => ({
    totals: totals(pages),
    diskBytes: 0,
    round: { number: 2, pages: 5, sent: 1 },
  }));
  pages = 7;
  expect(facts.view()).toMatchObject({ pagesSent: 7, round: 2, roundPages: 5, roundSent: 1 });
  facts.ended('completed', undefined);
  const { elapsedMs } = facts.view();
  pages = 9;
  await sleep(5);
  await facts.closeLedger();
  facts.end(true);
  expect(facts.view()).toMatchObject({ phase: 'ended', outcome: 'completed', pagesSent: 7 });
  expect(facts.view().elapsedMs).toBe(elapsedMs);
});

test('one found in the journal is as old as its entry says, and never from the future', () => {
  const of = (begunAt: number) =>
    new Facts({ ...known, role: 'send', begunAt, onChange: () => {} }).view();
  expect(of(Date.now() - 60_000).elapsedMs).toBeGreaterThanOrEqual(60_000);
  expect(of(Date.now() - 60_000).phase).toBe('recovery');
  expect(of(0).startedAt).toBe('1970-01-01T00:00:00.000Z');
  expect(of(Date.now() + 3_600_000).elapsedMs).toBeGreaterThanOrEqual(0);
});

test('a lost connection is what is waited for, until it is back', () => {
  const facts = new Facts({ ...known, role: 'send', onChange: () => {} });
  facts.waits('a word');
  facts.connectionLost(silent);
  facts.connectionLost(new GodwitError('peer-closed', 'closed')); // the first reason counts
  expect(facts.view().waitsFor).toMatch(/^a connection, lost .* ago: nothing was heard$/);
  expect(facts.connectionBack()).toBe(true);
  expect(facts.connectionBack()).toBe(false);
  expect(facts.view().waitsFor).toBe('a word');
});

test('of one that has failed no connection is waited for', () => {
  const facts = new Facts({ ...known, role: 'receive', onChange: () => {} });
  facts.ended('failed', silent);
  facts.connectionLost(silent); // as its link does when the copy is gone
  expect(facts.view().waitsFor).toBeUndefined();
});

test('patience that has ended asks for a person, until the outcome is known', async () => {
  const facts = new Facts({ ...known, role: 'send', patienceMs: 1, onChange: () => {} });
  facts.waits('a word');
  expect(facts.view().outcome).toBeUndefined();
  await sleep(5);
  facts.waits('a word');
  expect(facts.view().outcome).toBe('needs-resolve');
  facts.ended('failed', silent);
  expect(facts.view()).toMatchObject({ outcome: 'failed', code: 'peer-silent' });
});

test('the ledger has what happened, in order, and the view says the same', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-facts-'));
  dirs.push(dir);
  const file = path.join(dir, 'ledger.ndjson');
  const ledger = new LedgerWriter(file, (error) => expect.fail(error.message));
  let changes = 0;
  const onChange = () => void changes++;
  const facts = new Facts({ ...known, role: 'send', totalPages: 16, ledger, onChange });
  facts.asked({ ...request, destination: known.peer });
  facts.count(() => ({
    totals: totals(4),
    diskBytes: 0,
    round: { number: 1, pages: 16, sent: 4 },
  }));
  facts.limitsChanged(
    { ...request.limits, maxSuspendMs: 100 },
    { bandwidth: 1e6, suspendBandwidth: undefined },
  );
  const round = { round: 1, stopAndCopy: false, cutShort: true, dirtyPages: 16, ms: 3 };
  const report = { ...round, drainedBytes: 7 }; // what nobody reads is not written
  facts.round({ ...report, totals: totals(4) });
  facts.connectionLost(silent);
  facts.connectionBack();
  facts.note('something');
  facts.ended('failed', silent);
  await facts.closeLedger();
  facts.end(true);
  const records = await readLedger(file);
  const types = records.map(({ type }) => type);
  expect(types).toEqual(['start', 'limits', 'round', 'outage', 'note', 'end']);
  expect(records[0]).toMatchObject({ id: known.id, destination: known.peer, totalPages: 16 });
  const { pages: sentPages, ackedContentBytes: _, ...sent } = totals(4);
  const at = expect.any(Number);
  expect(records[2]).toEqual({ type: 'round', at, ...round, sentPages, ...sent });
  expect(records[5]).toMatchObject({ outcome: 'failed', rounds: 1, pages: 4 });
  expect(facts.view()).toMatchObject({
    policy: 'contract',
    bandwidth: 1e6,
    message: silent.message,
  });
  expect(facts.view().limits?.maxSuspendMs).toBe(100);
  expect(changes).toBe(6); // the end is told once, when everything is written
});

test('a consultation has the limits it was about when they were changed while the policy thought', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-facts-'));
  dirs.push(dir);
  const file = path.join(dir, 'ledger.ndjson');
  const ledger = new LedgerWriter(file, (error) => expect.fail(error.message));
  const facts = new Facts({ ...known, role: 'send', ledger, onChange: () => {} });
  const { limits } = request;
  const later = { ...limits, maxSuspendMs: 100 };
  facts.asked({ ...request, destination: known.peer });
  facts.consulted({ stats: afterForecasts([250, 100], 200), limits, verdict });
  facts.limitsChanged(later, { bandwidth: undefined, suspendBandwidth: undefined });
  facts.consulted({ stats: afterForecasts([250, 100], 200), limits, verdict });
  facts.consulted({ stats: afterForecasts([250, 100], 200), limits: later, verdict });
  await facts.closeLedger();
  const records = (await readLedger(file)).filter(({ type }) => type === 'consultation');
  expect(records.map((record) => 'limits' in record)).toEqual([false, true, false]);
  expect(records[1]).toMatchObject({ limits: { maxSuspendMs: 300 } });
});

test('a host is recorded once; what its agent has used of its processors, with each consultation', async () => {
  const records: LedgerRecord[] = [];
  const onRecord = (record: LedgerRecord) => void records.push(record);
  const facts = new Facts({ ...known, role: 'send', onRecord, onChange: () => {} });
  const consulted = () =>
    facts.consulted({ stats: afterForecasts([250], 200), limits: request.limits, verdict });
  const there = { name: 'hostb', cpus: 8, system: 'Linux 6.1', agent: 'agent-recv 0.1.0' };
  facts.host('source', { ...there, name: 'hosta', cpuMs: 100, hypervisor: 'QEMU 10.0.2' });
  consulted();
  const told = { ...there, hypervisor: '' };
  facts.host('destination', { ...told, cpuMs: 5000 });
  facts.host('destination', { ...told, cpuMs: 5250 });
  consulted();
  facts.host('destination', { ...told, cpuMs: 10 }); // another process has its place
  facts.ended('failed', silent);
  const at = expect.any(Number);
  expect(records.filter(({ type }) => type === 'host')).toEqual([
    { type: 'host', at, side: 'source', ...there, name: 'hosta', hypervisor: 'QEMU 10.0.2' },
    { type: 'host', at, side: 'destination', ...there, hypervisor: undefined },
  ]);
  const sourceMs = expect.any(Number);
  expect(records.flatMap((record) => ('cpu' in record ? [record.cpu] : []))).toEqual([
    { sourceMs, destinationMs: undefined },
    { sourceMs, destinationMs: 250 },
    { sourceMs, destinationMs: 0 },
  ]);
});

test('a guest that is held: the ledger has what changes, and one consultation in ten seconds', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-facts-'));
  dirs.push(dir);
  const file = path.join(dir, 'held.ndjson');
  const ledger = new LedgerWriter(file, () => {});
  const facts = new Facts({ ...known, role: 'send', totalPages: 16, ledger, onChange: () => {} });
  const limits = { ...request.limits, hold: 'cutover' };
  facts.asked({ destination: 'hostb:7100', ...request, limits });
  facts.enter('precopy');
  const hold = { opensMs: UNKNOWN, closesMs: UNKNOWN };
  const consulted = (action: Verdict['action'], when: PrecopyStats['when'] = 'before-round') =>
    facts.consulted({
      stats: afterForecasts([12], 1000, { when, hold }),
      limits,
      verdict: { action, reason: 'as it is' },
    });
  consulted('continue');
  expect(facts.view().hold).toMatchObject({ ready: false, wirePerMinute: undefined });
  consulted('hold');
  for (let i = 0; i < 20; i++) consulted('hold', i % 5 === 0 ? 'before-round' : 'at-rest');
  expect(facts.view().hold).toMatchObject({ until: 'until a cutover is ordered', ready: true });
  consulted('continue');
  consulted('continue', 'in-round');
  expect(facts.view().hold).toMatchObject({ ready: false });
  consulted('abort');
  facts.ended('aborted', undefined);
  expect(facts.view().hold).toBeUndefined();
  await facts.closeLedger();
  const asked = (await readLedger(file)).flatMap((record) =>
    record.type === 'consultation' ? [record.verdict.action] : [],
  );
  expect(asked).toEqual(['continue', 'hold', 'continue', 'abort']);
});

const verdict = { action: 'continue', reason: 'not yet' } as const;
const request = {
  hypervisor: 'simulated',
  policy: 'contract',
  limits: {
    maxSuspendMs: 300,
    timeoutMs: undefined,
    prefer: 'workload',
    pauseBelowMs: undefined,
    abortAboveMs: undefined,
    maxIters: 30,
    minRemaining: 50,
  },
  bandwidth: undefined,
  lanes: 1,
  verify: false,
  compression: 'off',
} as const;

function totals(pages: number): LaneTotals {
  return {
    pages,
    encodings: { zero: 0, raw: pages, same: 0, delta: 0, copy: 0 },
    wireBytes: pages * 4096,
    rawBytes: pages * 4096,
    rawWireBytes: pages * 4096,
    ackedContentBytes: pages * 4096,
    levels: {},
  };
}
