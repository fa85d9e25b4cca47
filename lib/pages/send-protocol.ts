import type { Region, RegionFile } from '../memory/guest-layout.ts';
import type { Security } from '../wire/credentials.ts';

/** What a sender worker is started with. */
export interface SendWorkerData {
  readonly channel: number;
  readonly channels: number;
  readonly host: string;
  readonly port: number;
  readonly connectTimeoutMs: number;
  readonly security: Security;
  /** Longest wait for an acknowledgement while batches are out; then the connection counts as dead. */
  readonly stallTimeoutMs: number;
  /** How long a lost connection is tried again; 0: not at all. */
  readonly reconnectTimeoutMs: number;
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly hashSeed: bigint;
  readonly regions: readonly Region[];
  readonly pages: PagesOfWorker;
  /** Unacknowledged batches, and so chunk-sized slots. */
  readonly window: number;
  readonly compression: 'auto' | 'off';
  readonly pacer: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  /** Int32: rounds up to this number are to stop. */
  readonly interrupted: SharedArrayBuffer;
}

/** Where a worker has its pages from: files that it reads, or a ring that somebody fills. */
export type PagesOfWorker =
  | { readonly memory: readonly RegionFile[] }
  | { readonly ring: SharedArrayBuffer };

/** What the main thread asks of a sender worker. */
export type SendRequests = {
  /** Connects and opens the channel. */
  open: { argument: undefined; answer: undefined };
  /**
   * Sends the channel's pages of the set, taking each chunk out of it as it is sent; answers when
   * all is acknowledged. True: interrupted, what was not sent is still in the set.
   */
  round: { argument: { round: number; set: SharedArrayBuffer }; answer: boolean };
  /** Answers when that many chunks of its ring are acknowledged, since the beginning. */
  settled: { argument: number; answer: undefined };
  digest: { argument: undefined; answer: bigint };
  /** The peer is silent elsewhere, for that reason: tries another connection. */
  suspect: { argument: string; answer: undefined };
};
