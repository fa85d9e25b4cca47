import { PAGE_SIZE } from '../lib/memory/guest-layout.ts';
import type { SuspensionCosts } from '../lib/precopy/estimate.ts';

/** A guest's device state before the real one is known, bytes. */
const TYPICAL_DEVICE_STATE = 128 << 10;
/** Parts of a suspension that nobody has measured before it, on one host, ms. */
const TYPICAL = { suspendMs: 4, loadMs: 4, resumeMs: 4 } as const;
/** Prepared and running; the source has one, committed. */
const DESTINATION_RECORDS = 2;
/** Bytes of hash table that a worker digests in a millisecond. */
const DIGEST_BYTES_PER_MS = 2e6;

export interface Measured {
  readonly totalPages: number;
  readonly channels: number;
  /** The last harvest of the dirty log; 0 before the first. */
  readonly syncMs: number;
  readonly roundTripMs: number;
  /** A record durable in this side's journal and in the receiver's. */
  readonly journalMs: number;
  readonly peerJournalMs: number;
  /** Bytes per second at which the receiver re-reads memory; 0 when it does not or cannot tell. */
  readonly verifyRate: number;
}

/** What a suspension costs besides pages, from what has been measured so far and typical values. */
export function suspensionCosts(measured: Measured): SuspensionCosts {
  const { totalPages, channels, syncMs, roundTripMs, journalMs, peerJournalMs, verifyRate } =
    measured;
  return {
    ...TYPICAL,
    suspendMs: TYPICAL.suspendMs + syncMs,
    digestMs: (totalPages * 8) / channels / DIGEST_BYTES_PER_MS,
    roundTripMs,
    journalMs: journalMs + DESTINATION_RECORDS * peerJournalMs,
    deviceStateBytes: TYPICAL_DEVICE_STATE,
    verifyMs: verifyRate > 0 ? ((totalPages * PAGE_SIZE) / verifyRate) * 1000 : 0,
  };
}
