import type { Region } from '../../memory/guest-layout.ts';
import type { RamBlock } from './stream/format.ts';

/** What the ingest thread is started with. */
export interface IngestData {
  /** The Unix socket that QEMU migrates to. */
  readonly path: string;
}

export interface Prologue {
  /** QEMU's machine type. */
  readonly machine: string;
  /** The stream's first bytes, through the list of RAM blocks. */
  readonly bytes: Uint8Array;
  readonly blocks: readonly RamBlock[];
}

export interface Pushed {
  /** Chunks in each ring, since the beginning. */
  readonly chunks: readonly number[];
  /** Bitmap of the pages of the round. */
  readonly pages: SharedArrayBuffer;
}

/** What the main thread asks of the ingest thread. */
export type IngestRequests = {
  /** Listens; answers when QEMU may connect. */
  listen: { argument: undefined; answer: undefined };
  /** Answers when the list of RAM blocks is here; nothing after it is read yet. */
  prologue: { argument: undefined; answer: Prologue };
  /** Reads on: pages go into the rings. */
  read: {
    argument: { regions: readonly Region[]; rings: readonly SharedArrayBuffer[] };
    answer: undefined;
  };
  /** Gives the open chunk to its ring: what was read so far belongs to the round. */
  publish: { argument: number; answer: Pushed };
  /** Reads no more for the time being, or again. */
  reading: { argument: boolean; answer: undefined };
  /** Lets QEMU stop the guest (capability switchover-ack). */
  allowSwitchover: { argument: undefined; answer: undefined };
  /** Answers when the last page was read. */
  ramEnded: { argument: undefined; answer: undefined };
  /** Answers with all that follows the pages, when it is here. */
  deviceState: { argument: undefined; answer: { beforeEnd: Uint8Array; tail: Uint8Array } };
  /** Says SHUT without an error: QEMU gives the guest up. */
  shut: { argument: undefined; answer: undefined };
};
