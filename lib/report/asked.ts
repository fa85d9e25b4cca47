import { UNDIVIDED } from '../precopy/fit.ts';
import {
  type Estimate,
  HISTORY_ROUNDS,
  type PolicyLimits,
  type PrecopyStats,
  type RoundStats,
  UNKNOWN,
} from '../precopy/stats.ts';
import type { ConsultationRecord, LedgerRecord, RoundRecord } from './records.ts';

/** What a policy was shown at a consultation. */
export interface Asked {
  readonly stats: PrecopyStats;
  readonly limits: PolicyLimits;
}

/**
 * The consultations of a ledger as they were put to the policy. The ledger leaves out `history`,
 * which is made again as `Measurements` made it: a round enters it with the sync after it, which is
 * what the next consultation before a round tells of. A pass that no sync followed never does.
 *
 * @param records as `parseLedger` returns them
 */
export function askedIn(records: readonly LedgerRecord[]): Asked[] {
  const asked: Asked[] = [];
  let limits: PolicyLimits | undefined;
  let finished: RoundRecord | undefined;
  let history: readonly RoundStats[] = Object.freeze([]);
  for (const record of records) {
    if (record.type === 'start' || record.type === 'limits') limits = record.limits;
    if (record.type === 'round') finished = record;
    if (record.type !== 'consultation') continue;
    const shown = { ...record.stats, estimate: figures(record.stats.estimate) };
    if (shown.when === 'before-round' && finished !== undefined) {
      history = Object.freeze([...history, entry(finished, shown)].slice(-HISTORY_ROUNDS));
      finished = undefined;
    }
    const stats = Object.freeze({ ...shown, history });
    asked.push({ stats, limits: record.limits ?? limits! });
  }
  return asked;
}

function entry(
  { round, dirtyPages, ms }: RoundRecord,
  { dirtyCount, estimate }: ConsultationRecord['stats'],
): RoundStats {
  const estimateMs = estimate?.expected ?? UNKNOWN;
  return Object.freeze({ round, dirtyPages, dirtiedPages: dirtyCount, ms, estimateMs });
}

/** JSON knows no infinity, and writes null for it. */
function figures(estimate: Estimate | undefined): Estimate | undefined {
  if (!estimate) return undefined;
  const finite = Object.entries(estimate).map(([name, ms]) => [
    name,
    ms ?? Number.POSITIVE_INFINITY,
  ]);
  return Object.freeze({ ...UNDIVIDED, ...Object.fromEntries(finite) });
}
