import type { Credentials } from '../wire/credentials.ts';
import type { DialLaneOptions } from '../wire/dial.ts';

export const SEND_DISKS = new URL('./send-disks.ts', import.meta.url);
export const RECEIVE_DISKS = new URL('./receive-disks.ts', import.meta.url);

/** What both ends of the disk lane are begun with. */
interface DiskLaneData {
  readonly migration: string;
  /** After those of pages. */
  readonly lane: number;
  readonly secret: Uint8Array;
  /** The Unix socket of the hypervisor: to be listened on at the source, to connect to at the destination. */
  readonly path: string;
  readonly counters: SharedArrayBuffer;
}

export interface SendDisksData extends DiskLaneData, Omit<DialLaneOptions, 'signal'> {
  /** As of a lane of pages. */
  readonly stallTimeoutMs: number;
  readonly reconnectTimeoutMs: number;
  /** The cap of the whole migration. */
  readonly pacer: SharedArrayBuffer;
}

export interface ReceiveDisksData extends DiskLaneData {
  readonly listenHost: string;
  readonly listenPorts: readonly number[];
  readonly credentials: Credentials | undefined;
  readonly senderFingerprint: string;
  /** As of a lane of pages. */
  readonly peerTimeoutMs: number;
}

export type SendDisksRequests = {
  /** Connects to the destination; answers when the hypervisor may connect here. */
  open: { argument: undefined; answer: undefined };
  /** The control connection is dead, for that reason: this one probably is, too. */
  suspect: { argument: string; answer: undefined };
};

export type ReceiveDisksRequests = {
  /** Listens for the one data connection; answers with the port. */
  listen: { argument: undefined; answer: number };
};
