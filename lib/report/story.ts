import assert from 'node:assert/strict';
import type { PolicyLimits } from '../precopy/stats.ts';
import { formatDuration } from '../units.ts';
import type {
  ConsultationRecord,
  EndRecord,
  LedgerRecord,
  LimitsRecord,
  NoteRecord,
  OutageRecord,
  RoundRecord,
  StartRecord,
  SuspensionRecord,
} from './records.ts';

/** A ledger sorted by kind: what summary and charts are drawn from. */
export interface Story {
  readonly start: StartRecord;
  readonly consultations: readonly ConsultationRecord[];
  readonly rounds: readonly RoundRecord[];
  readonly limits: readonly LimitsRecord[];
  readonly notes: readonly NoteRecord[];
  /** The last one: a roll back may have come before it. */
  readonly suspension: SuspensionRecord | undefined;
  /** Undefined while the migration runs, or when the agent died. */
  readonly end: EndRecord | undefined;
  /** Time of the last record, ms. */
  readonly until: number;
}

/** @param records a ledger as parseLedger returns it: the start record comes first. */
export function tellStory(records: readonly LedgerRecord[]): Story {
  const start = records[0];
  assert(start?.type === 'start', 'a ledger begins with its start record');
  return {
    start,
    consultations: ofType(records, 'consultation'),
    rounds: ofType(records, 'round'),
    limits: ofType(records, 'limits'),
    notes: [...ofType(records, 'note'), ...ofType(records, 'outage').map(outageNote)].sort(
      (a, b) => a.at - b.at,
    ),
    suspension: ofType(records, 'suspension').at(-1),
    end: ofType(records, 'end').at(-1),
    until: records.reduce((latest, { at }) => Math.max(latest, at), 0),
  };
}

/** An outage as the reports tell it. */
function outageNote({ at, ms, reason }: OutageRecord): NoteRecord {
  const text = `the connection was lost for ${formatDuration(ms)}: ${reason}`;
  return { type: 'note', at, text };
}

/** The limits in force at a time, ms. */
export function limitsAt(story: Story, at: number): PolicyLimits {
  return story.limits.findLast((change) => change.at <= at)?.limits ?? story.start.limits;
}

/** The verdict that ended precopy: the last consultation, when it did not say continue. */
export function decision({ consultations }: Story): ConsultationRecord | undefined {
  const last = consultations.at(-1);
  return last?.verdict.action === 'continue' ? undefined : last;
}

function ofType<T extends LedgerRecord['type']>(
  records: readonly LedgerRecord[],
  type: T,
): Extract<LedgerRecord, { type: T }>[] {
  return records.filter(
    (record): record is Extract<LedgerRecord, { type: T }> => record.type === type,
  );
}
