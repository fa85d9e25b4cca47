import type { Region, RegionFile } from '../memory/guest-layout.ts';
import type { SpoolShare } from '../memory/state-spool.ts';
import type { DialLaneOptions } from '../wire/dial.ts';

/** What a sender's lane is begun with. */
export interface SendLaneData extends Omit<DialLaneOptions, 'signal'> {
  readonly lanes: number;
  /** Longest wait for an acknowledgement while batches are out; then the connection counts as dead. */
  readonly stallTimeoutMs: number;
  /** How long a lost connection is tried again; 0: not at all. */
  readonly reconnectTimeoutMs: number;
  readonly hashSeed: bigint;
  /** What the receiver hashes the pages with that it has kept; undefined: it has none. */
  readonly keptSecret?: Uint8Array | undefined;
  readonly regions: readonly Region[];
  readonly pages: PagesOfLane;
  /** Where the guest's device state will come in. */
  readonly state: SpoolShare;
  /** Unacknowledged batches, and so chunk-sized slots; as many as a ring has. */
  readonly window: number;
  readonly compression: 'auto' | 'off';
  readonly pacer: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  /** Words for all lanes of the migration, see `ORDERS`. */
  readonly orders: SharedArrayBuffer;
}

/** Int32 words by which the main thread tells all lanes at once. */
export const ORDERS = {
  /** Rounds up to this number are to stop. */
  interrupted: 0,
  /** Not 0: the guest is suspended, its lanes come before those of others. */
  urgent: 1,
} as const;
export const ORDERS_SIZE = 8;

/** Where a lane has its pages from: files that it reads, or a ring that somebody fills. */
export type PagesOfLane =
  | { readonly memory: readonly RegionFile[] }
  | { readonly ring: SharedArrayBuffer };

/** What the main thread asks of a sender's lane. */
export type SendRequests = {
  /** Connects and opens the lane. */
  open: { argument: undefined; answer: undefined };
  /**
   * Sends the lane's pages of the set, taking each chunk out of it as it is sent; answers when
   * all is acknowledged. True: interrupted, what was not sent is still in the set.
   */
  round: { argument: { round: number; set: SharedArrayBuffer }; answer: boolean };
  /** Answers when that many chunks of its ring are acknowledged, since the beginning. */
  settled: { argument: number; answer: undefined };
  /**
   * Sends the lane's share of the device state as it grows, behind the pages of a round that is under
   * way; answers with the digest of its parts when all of them are on their way.
   */
  state: { argument: undefined; answer: bigint };
  digest: { argument: undefined; answer: bigint };
  /** The peer is silent elsewhere, for that reason: tries another connection. */
  suspect: { argument: string; answer: undefined };
};
