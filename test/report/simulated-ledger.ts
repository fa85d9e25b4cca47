import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GodwitError } from '../../lib/errors.ts';
import { Facts } from '../../lib/migration/facts.ts';
import type { LaneTotals } from '../../lib/pages/counters.ts';
import type { Consulted } from '../../lib/precopy/loop.ts';
import type { Steering } from '../../lib/precopy/steering.ts';
import { LedgerWriter } from '../../lib/report/ledger.ts';
import { type Guest, MIB, migrate, type Run, type Scenario } from '../precopy/simulator.ts';

export interface Simulated {
  /** What is in the ledger's file. */
  readonly text: string;
  /** Everything the policy was shown, history included, and what it said. */
  readonly consultations: readonly Consulted[];
  readonly outcome: Run['outcome'] | 'cancelled';
}

/** A precopy in simulated time, written down by what writes down a real one. */
export async function simulated(scenario: Scenario): Promise<Simulated> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-simulated-'));
  const file = path.join(dir, 'ledger.ndjson');
  const totalPages = scenario.totalPages ?? 512 * MIB;
  const consultations: Consulted[] = [];
  const facts = new Facts({
    ...{ id: '4f2a000000000001', role: 'send', guest: 'vm1', peer: 'hostb:7070', totalPages },
    ledger: new LedgerWriter(file, (error) => {
      throw error;
    }),
    onChange: () => {},
  });
  const witness: Scenario['witness'] = {
    begins: (steering) => follow(facts, steering),
    consulted(consulted) {
      consultations.push(consulted);
      facts.consulted(consulted);
    },
    round: (report) => facts.round({ ...report, stopAndCopy: false, totals: totals(report) }),
  };
  try {
    const outcome = await outcomeOf(migrate({ ...scenario, witness }), facts);
    await facts.closeLedger();
    return { text: fs.readFileSync(file, 'utf8'), consultations, outcome };
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

/** Begins the ledger, and tells it of what the operator does, as a migration does. */
function follow(facts: Facts, steering: Steering): void {
  const { policy, limits } = steering;
  facts.asked({
    ...{ destination: 'hostb:7070', hypervisor: 'simulated', policy, limits, lanes: 2 },
    ...{ bandwidth: undefined, verify: false, compression: 'auto' },
  });
  steering.onChange(() => {
    if (steering.cutoverRequested) facts.note('the operator asked for the cutover');
    else facts.limitsChanged(steering.limits, facts.caps);
  });
}

async function outcomeOf(run: Promise<Run>, facts: Facts): Promise<Simulated['outcome']> {
  try {
    const { outcome, reason } = await run;
    if (outcome === 'abort') facts.ended('aborted', new GodwitError('policy-abort', reason));
    else facts.ended('completed', undefined);
    return outcome;
  } catch (error) {
    if (!(error instanceof GodwitError) || error.code !== 'cancelled') throw error;
    facts.ended('cancelled', error);
    return 'cancelled';
  }
}

function totals({ sentPages, wireBytes }: { sentPages: number; wireBytes: number }): LaneTotals {
  return {
    pages: sentPages,
    encodings: { zero: 0, raw: sentPages, same: 0, delta: 0, copy: 0 },
    wireBytes,
    rawBytes: wireBytes,
    rawWireBytes: wireBytes,
    ackedContentBytes: wireBytes,
    levels: {},
  };
}

/**
 * Cloud Hypervisor's PR 7799: 6 GiB at 1.9 GiB/s, of which 5.3 GiB are dirty after every round. Xen's
 * policy, allowed as many rounds as it likes, follows it for the whole of its 20 minutes.
 */
export function neverConverges(): Promise<Simulated> {
  const found = [5428, 5418, 5422, 5426, 5419];
  let sync = 0;
  const guest: Guest = (from, to) => (to - from < 1000 ? 0 : found[sync++ % 5]! * MIB);
  return simulated({
    ...{ guest, totalPages: 6144 * MIB, drainRate: 1.9 * 2 ** 30 },
    policy: 'xen',
    limits: { maxIters: 10_000, timeoutMs: 20 * 60_000 },
  });
}
