import type { PolicyLimits } from '../precopy/stats.ts';
import { formatDuration } from '../units.ts';
import type {
  ConsultationRecord,
  DisksRecord,
  EarlierRecord,
  EndRecord,
  ForecastRecord,
  HostRecord,
  LedgerRecord,
  LimitsRecord,
  LinkRecord,
  NoteRecord,
  OutageRecord,
  RoundRecord,
  StartRecord,
  SuspensionRecord,
} from './records.ts';
import { isFigure } from './words.ts';

/** A ledger sorted by kind: what summary and charts are drawn from. */
export interface Story {
  readonly start: StartRecord;
  /** The one before the move that counts. */
  readonly foretold: ForecastRecord | undefined;
  /** When its disks were copied; undefined when none were, or not to the end. */
  readonly disks: DisksRecord | undefined;
  readonly consultations: readonly ConsultationRecord[];
  readonly rounds: readonly RoundRecord[];
  readonly limits: readonly LimitsRecord[];
  readonly notes: readonly NoteRecord[];
  readonly outages: readonly OutageRecord[];
  readonly hosts: readonly HostRecord[];
  readonly link: LinkRecord | undefined;
  /** Of the guest before this move. */
  readonly earlier: EarlierRecord | undefined;
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
  if (start?.type !== 'start') throw new TypeError('a ledger begins with its start record');
  return {
    start,
    foretold: ofType(records, 'forecast').at(-1),
    earlier: ofType(records, 'earlier').at(-1),
    disks: ofType(records, 'disks').at(-1),
    consultations: ofType(records, 'consultation'),
    rounds: ofType(records, 'round'),
    limits: ofType(records, 'limits'),
    outages: ofType(records, 'outage'),
    hosts: ofType(records, 'host'),
    link: ofType(records, 'link').at(-1),
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

/** The verdict that ended precopy: the last consultation, when it said that. */
export function decision({ consultations }: Story): ConsultationRecord | undefined {
  const last = consultations.at(-1);
  const action = last?.verdict.action;
  return action === 'continue' || action === 'hold' ? undefined : last;
}

/** The time in which the guest was ready and held, and what that has cost. */
export interface Held {
  readonly from: ConsultationRecord;
  readonly ms: number;
  readonly wireBytes: number;
}

/** From the first `hold` to the last; undefined when there was none. */
export function heldIn({ consultations }: Story): Held | undefined {
  const holds = ({ verdict }: ConsultationRecord) => verdict.action === 'hold';
  const from = consultations.find(holds);
  const to = consultations[consultations.findLastIndex(holds) + 1] ?? consultations.at(-1);
  if (from === undefined || to === undefined) return undefined;
  const wireBytes = to.stats.wireBytes - from.stats.wireBytes;
  return { from, ms: to.at - from.at, wireBytes };
}

/** From when to when the guest was suspended, by the agents' clock, ms; undefined when it was not. */
export function suspendedIn({ suspension, rounds }: Story): readonly [number, number] | undefined {
  if (suspension === undefined) return undefined;
  const { at, fromMs, agentMs, parts } = suspension;
  const last = rounds.findLast(({ stopAndCopy }) => stopAndCopy);
  const before = (parts.suspend ?? 0) + (parts.sync ?? 0);
  // Ledgers of before tell only when it was recorded, and that may be later.
  const from = fromMs ?? (last === undefined ? at - agentMs : last.at - last.ms - before);
  return isFigure(from) ? [Math.max(0, from), Math.max(0, from + agentMs)] : undefined;
}

function ofType<T extends LedgerRecord['type']>(
  records: readonly LedgerRecord[],
  type: T,
): Extract<LedgerRecord, { type: T }>[] {
  return records.filter(
    (record): record is Extract<LedgerRecord, { type: T }> => record.type === type,
  );
}
