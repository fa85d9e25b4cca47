import type { EncodingCounts } from '../pages/counters.ts';
import type { MoveForecast } from '../precopy/past-moves.ts';
import type { Estimate, PolicyLimits, PrecopyStats, Verdict } from '../precopy/stats.ts';
import type { SuspensionParts } from '../precopy/suspension.ts';

/**
 * The ledger: one JSON object a line, in the order in which things happened. `at` is milliseconds
 * since the migration began, unless said otherwise. Readers skip types they do not know.
 */
export type LedgerRecord =
  | StartRecord
  | ForecastRecord
  | DisksRecord
  | ConsultationRecord
  | RoundRecord
  | LimitsRecord
  | NoteRecord
  | OutageRecord
  | HostRecord
  | LinkRecord
  | EarlierRecord
  | SuspensionRecord
  | EndRecord;

export interface StartRecord {
  readonly type: 'start';
  readonly at: 0;
  /** Wall clock, ISO 8601. */
  readonly time: string;
  readonly id: string;
  readonly guest: string;
  readonly destination: string;
  /** The name of the host that sends; undefined in ledgers of older versions. */
  readonly source?: string | undefined;
  /** Who asked for it, if they said. */
  readonly by?: string | undefined;
  readonly hypervisor: string;
  readonly policy: 'contract' | 'xen' | 'custom';
  readonly limits: PolicyLimits;
  /** Bytes per second, undefined: no cap. */
  readonly bandwidth: number | undefined;
  /** The same while the guest is suspended; ledgers of before there was one have none. */
  readonly suspendBandwidth?: number | undefined;
  readonly totalPages: number;
  readonly lanes: number;
  readonly verify: boolean;
  readonly compression: 'auto' | 'off';
}

/** The forecast before the move; of several the last one counts. */
export interface ForecastRecord extends MoveForecast {
  readonly type: 'forecast';
  readonly at: number;
}

/** The disks that go with the guest are copied, and are kept as they are at their source from here on. */
export interface DisksRecord {
  readonly type: 'disks';
  readonly at: number;
  readonly ms: number;
  /** On the wire so far. */
  readonly bytes: number;
  readonly names: readonly string[];
  /** Bytes that were copied, without what was all zeros. */
  readonly total: number;
}

/** While a guest is held, only what changes, and one every ten seconds. */
export interface ConsultationRecord {
  readonly type: 'consultation';
  readonly at: number;
  /** Without `history`: the earlier records are the history (`askedIn`). */
  readonly stats: Omit<PrecopyStats, 'history'>;
  /** What the policy was shown, where the last record of limits is a later one. */
  readonly limits?: PolicyLimits | undefined;
  readonly verdict: Verdict;
  /** Why the verdict is not the custom policy's own. */
  readonly problem?: string | undefined;
  /** Ledgers of before have none. */
  readonly cpu?: CpuTimes | undefined;
}

export interface RoundRecord {
  readonly type: 'round';
  /** When the round ended. */
  readonly at: number;
  readonly round: number;
  readonly stopAndCopy: boolean;
  readonly cutShort: boolean;
  readonly dirtyPages: number;
  readonly sentPages: number;
  readonly ms: number;
  readonly wireBytes: number;
  readonly encodings: EncodingCounts;
  /** Bytes of raw pages before and after compression; equal when nothing was compressed. */
  readonly rawBytes: number;
  readonly rawWireBytes: number;
  /** zstd levels used in the round and the batches sent with each; level "off" for none. */
  readonly levels: Readonly<Record<string, number>>;
}

/** Limits were changed in flight. */
export interface LimitsRecord {
  readonly type: 'limits';
  readonly at: number;
  readonly limits: PolicyLimits;
  readonly bandwidth: number | undefined;
  readonly suspendBandwidth?: number | undefined;
}

/** A host that takes part; told once for each side, by ledgers of before for none. */
export interface HostRecord {
  readonly type: 'host';
  readonly at: number;
  readonly side: 'source' | 'destination';
  readonly name: string;
  readonly cpus: number;
  /** Kernel and architecture. */
  readonly system: string;
  /** Name and version of the agent and of what runs it. */
  readonly agent: string;
  /** Name and version, where the hypervisor says it. */
  readonly hypervisor?: string | undefined;
}

/** The way between the two, as it was when the rounds had ended; ledgers of before have none. */
export interface LinkRecord {
  readonly type: 'link';
  readonly at: number;
  readonly lanes: number;
  readonly tls: boolean;
  /** As agreed with the destination. */
  readonly compression: 'auto' | 'off';
  /** Smoothed; undefined: not measured yet. */
  readonly roundTripMs: number | undefined;
}

/** Processor time that the agents have used since the migration began, for all that they do, ms. */
export interface CpuTimes {
  readonly sourceMs: number;
  /** Undefined until it tells. */
  readonly destinationMs: number | undefined;
}

/** Something worth a line that is none of the others (cutover requested, roll back, …). */
export interface NoteRecord {
  readonly type: 'note';
  readonly at: number;
  readonly text: string;
}

/** The connections were lost and came back; the guest ran on. */
export interface OutageRecord {
  readonly type: 'outage';
  /** When the loss was noticed. */
  readonly at: number;
  readonly ms: number;
  readonly reason: string;
}

/** The suspensions of this guest from this host before the one of this move, the oldest first. */
export interface EarlierRecord {
  readonly type: 'earlier';
  readonly at: number;
  readonly suspensions: readonly PastSuspension[];
}

/** One that was lived through, as a later report shows it. Times are ms. */
export interface PastSuspension {
  /** ISO 8601. */
  readonly time: string;
  /** Of its own clock, or else of the agents'. */
  readonly ms: number;
  readonly limitMs: number | undefined;
  /** At the decision. */
  readonly forecast: SuspensionRecord['estimate'];
  /** The guest ran again at its destination. */
  readonly moved: boolean;
}

export interface SuspensionRecord {
  readonly type: 'suspension';
  /** When it ended (guest running on either side). */
  readonly at: number;
  readonly side: 'destination' | 'source';
  /** When it began, ms; what is recorded is known later. Ledgers of before have none. */
  readonly fromMs?: number | undefined;
  /** Forecast of the consultation that led to it, ms. */
  readonly estimate: (Partial<Estimate> & Pick<Estimate, 'low' | 'expected' | 'high'>) | undefined;
  readonly limitMs: number | undefined;
  /** Parts that were reached; a roll back has only the first ones. */
  readonly parts: Partial<SuspensionParts>;
  /**
   * Of the device state, which goes beside the parts: until it was saved and until it was on its way, ms
   * since its saving began. Undefined where that was not reached, and in ledgers of before.
   */
  readonly deviceState?: { bytes: number; savedMs: number; sentMs: number } | undefined;
  /** By the agents' clock, ms. */
  readonly agentMs: number;
  /** By the guest's own heartbeat, ms; undefined when it could not tell. */
  readonly guestMs: number | undefined;
  readonly clock: 'monotonic' | 'realtime' | undefined;
}

export type Outcome = 'completed' | 'aborted' | 'cancelled' | 'failed' | 'needs-resolve';

export interface EndRecord {
  readonly type: 'end';
  readonly at: number;
  readonly outcome: Outcome;
  /** Stable code when not completed. */
  readonly code: string | undefined;
  readonly message: string;
  /** A suspension limit that would have been enough, ms, where that is why it has not moved. */
  readonly enoughMs?: number | undefined;
  readonly rounds: number;
  readonly pages: number;
  readonly wireBytes: number;
  readonly encodings: EncodingCounts;
  /** Of disks, on the wire; undefined when none were copied. */
  readonly diskBytes?: number | undefined;
  /** Ledgers of before have none. */
  readonly cpu?: CpuTimes | undefined;
}
