import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { Lessons } from './calibration.ts';
import type { SuspensionCosts } from './estimate.ts';
import { reserveMs } from './fit.ts';
import type { Caps } from './suspension-rate.ts';

/** A guest's device state before the real one is known, bytes. */
const TYPICAL_DEVICE_STATE = 128 << 10;
/** Parts of a suspension that nobody has measured before it, on one host, ms. */
const TYPICAL = { suspendMs: 4, loadMs: 4, resumeMs: 4 } as const;
/** Saving and loading device state, together, ms per byte: 50 ms for the 8 MiB of a large guest. */
const STATE_MS_PER_BYTE = 6e-6;
/** Prepared and running; the source has one, committed. */
const DESTINATION_RECORDS = 2;
/** Bytes of hash table that a worker digests in a millisecond. */
const DIGEST_BYTES_PER_MS = 2e6;

export interface Measured {
  readonly totalPages: number;
  readonly lanes: number;
  /** The last harvest of the dirty log; 0 before the first. */
  readonly syncMs: number;
  readonly roundTripMs: number;
  /** A record durable in this side's journal and in the receiver's. */
  readonly journalMs: number;
  readonly peerJournalMs: number;
  /** Bytes per second at which the receiver re-reads memory; 0 when it does not or cannot tell. */
  readonly verifyRate: number;
  readonly caps?: Caps;
  /** What earlier suspensions have taught. */
  readonly lessons: Lessons;
}

/** What a suspension costs besides pages, from what has been measured so far and typical values. */
export function suspensionCosts(measured: Measured): SuspensionCosts {
  const { totalPages, lanes, syncMs, roundTripMs, journalMs, peerJournalMs, verifyRate } = measured;
  const { lessons } = measured;
  const { deviceStateBytes = TYPICAL_DEVICE_STATE, learned, leastMs, send, band } = lessons;
  return {
    ...TYPICAL,
    loadMs: TYPICAL.loadMs + deviceStateBytes * STATE_MS_PER_BYTE,
    suspendMs: TYPICAL.suspendMs + syncMs,
    digestMs: (totalPages * 8) / lanes / DIGEST_BYTES_PER_MS,
    roundTripMs,
    journalMs: journalMs + DESTINATION_RECORDS * peerJournalMs,
    deviceStateBytes,
    ...(measured.caps === undefined ? {} : { caps: measured.caps }),
    // Half a round trip for Commit, the record there, and the vCPUs.
    afterMs: learned?.afterMs ?? roundTripMs / 2 + peerJournalMs + TYPICAL.resumeMs,
    reserveMs: reserveMs(roundTripMs, lessons),
    verifyMs: verifyRate > 0 ? ((totalPages * PAGE_SIZE) / verifyRate) * 1000 : 0,
    leastMs,
    ...(learned && { learned: { ...learned, send, band } }),
  };
}
