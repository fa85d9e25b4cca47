import type { PolicyLimits, PrecopyStats, Verdict } from '../precopy/stats.ts';

/**
 * The ledger: one JSON object a line, in the order in which things happened. `at` is milliseconds
 * since the migration began, unless said otherwise. Readers skip types they do not know.
 */
export type LedgerRecord =
  | StartRecord
  | ConsultationRecord
  | RoundRecord
  | LimitsRecord
  | NoteRecord
  | OutageRecord
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
  readonly hypervisor: string;
  readonly policy: 'contract' | 'xen' | 'custom';
  readonly limits: PolicyLimits;
  /** Bytes per second, undefined: no cap. */
  readonly bandwidth: number | undefined;
  readonly totalPages: number;
  readonly channels: number;
  readonly verify: boolean;
  readonly compression: 'auto' | 'off';
}

export interface ConsultationRecord {
  readonly type: 'consultation';
  readonly at: number;
  /** Without `history`: the earlier records are the history. */
  readonly stats: Omit<PrecopyStats, 'history'>;
  readonly verdict: Verdict;
  /** Why the verdict is not the custom policy's own. */
  readonly problem?: string;
}

/** Pages by how they travelled. */
export interface EncodingCounts {
  readonly zero: number;
  readonly raw: number;
  readonly same: number;
  readonly delta: number;
  readonly copy: number;
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

/** Parts of the suspension, in order, milliseconds on the source's clock. */
export interface SuspensionParts {
  /** Until the hypervisor says that nothing executes. */
  readonly suspend: number;
  /** Last harvest of the dirty log. */
  readonly sync: number;
  /** Last pages sent, verified, written and acknowledged. */
  readonly pages: number;
  /** Device state saved and sent. */
  readonly deviceState: number;
  /** Digests computed and sent. */
  readonly digest: number;
  /** From there until Prepared arrived: digest compared, memory re-read if asked, state loaded. */
  readonly prepare: number;
  /** From Commit until Running arrived. */
  readonly commit: number;
}

export interface SuspensionRecord {
  readonly type: 'suspension';
  /** When it ended (guest running on either side). */
  readonly at: number;
  readonly side: 'destination' | 'source';
  /** Forecast of the consultation that led to it, ms. */
  readonly estimate: { low: number; expected: number; high: number } | undefined;
  readonly limitMs: number | undefined;
  /** Parts that were reached; a roll back has only the first ones. */
  readonly parts: Partial<SuspensionParts>;
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
  readonly rounds: number;
  readonly pages: number;
  readonly wireBytes: number;
  readonly encodings: EncodingCounts;
}
