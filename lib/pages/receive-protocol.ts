import type { Region, RegionFile } from '../memory/guest-layout.ts';
import type { SpoolShare } from '../memory/state-spool.ts';
import type { Credentials } from '../wire/credentials.ts';

export interface Kept {
  /** The names of the regions in which they stand. */
  readonly regions: readonly string[];
  /** What the sender has them hashed with. */
  readonly secret: Uint8Array;
}

/** What a receiver's lane is begun with. */
export interface ReceiveLaneData {
  readonly lane: number;
  readonly lanes: number;
  readonly listenHost: string;
  readonly credentials: Credentials | undefined;
  /** SHA-256 of the certificate that the sender showed on its control connection. */
  readonly senderFingerprint: string;
  /** Ports to try in turn; 0: any. */
  readonly listenPorts: readonly number[];
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly peerTimeoutMs: number;
  readonly hashSeed: bigint;
  readonly regions: readonly Region[];
  readonly memory: readonly RegionFile[];
  /** Where the device state comes in. */
  readonly state: SpoolShare;
  readonly roundTags: SharedArrayBuffer;
  /** Bitmap of pages that somebody waits for; undefined: nobody does. */
  readonly arrivals: SharedArrayBuffer | undefined;
  readonly counters: SharedArrayBuffer;
  /** Pages of an earlier copy stand in the memory, which the sender is to hear of; undefined: none do. */
  readonly kept?: Kept | undefined;
  /** The sender wants to know how busy its receiver is. */
  readonly tellsLoad: boolean;
}

/** What the main thread asks of a receiver's lane. */
export type ReceiveRequests = {
  /** Listens for the one data connection; answers with the port. */
  listen: { argument: undefined; answer: number };
  digest: { argument: undefined; answer: bigint };
  /** Re-reads the lane's memory and compares; answers with the first wrong pfn. */
  verify: { argument: undefined; answer: number | undefined };
  /** Bytes per second at which this worker reads and hashes guest memory. */
  verifyRate: { argument: undefined; answer: number };
};
