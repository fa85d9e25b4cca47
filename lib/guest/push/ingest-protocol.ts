import type { Region } from '../../memory/guest-layout.ts';
import type { SpoolShare } from '../../memory/state-spool.ts';
import type { ContentShares } from '../../pages/content-sample.ts';
import type { RamBlock } from '../../stream/qemu/format.ts';

export const INGEST = new URL('./ingest-task.ts', import.meta.url);

/** What the ingest is begun with. */
export interface IngestData {
  /** The Unix socket that QEMU migrates to. */
  readonly path: string;
  /** Of a StreamEnd: ends the stream from any thread. */
  readonly end: SharedArrayBuffer;
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

/** What the main thread asks of the ingest. */
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
  /** Reads on, and keeps no page: they are counted, and some of them are looked at. */
  drop: { argument: undefined; answer: undefined };
  /** What they have held so far. */
  dropped: { argument: undefined; answer: ContentShares };
  /** Gives the open chunk to its ring: what was read so far belongs to the round. */
  publish: { argument: number; answer: Pushed };
  /** Reads no more for the time being, or again. */
  reading: { argument: boolean; answer: undefined };
  /** Lets QEMU stop the guest (capability switchover-ack). */
  allowSwitchover: { argument: undefined; answer: undefined };
  /** Answers when the last page was read. */
  ramEnded: { argument: undefined; answer: undefined };
  /** Where all that follows the pages is to go; asked before they are read. */
  saveInto: { argument: SpoolShare; answer: undefined };
  /** Answers when all of that is there: its bytes, and the RunState before the guest was stopped. */
  saved: { argument: undefined; answer: { bytes: number; before: string | undefined } };
  /** Says SHUT without an error: QEMU gives the guest up. */
  shut: { argument: undefined; answer: undefined };
};
