import type { Region } from '../../memory/guest-layout.ts';
import type { SpoolShare } from '../../memory/state-spool.ts';
import type { Pushed } from '../push/ingest-protocol.ts';

export const XEN_INGEST = new URL('./ingest-task.ts', import.meta.url);

/** What the ingest is begun with: where `agent-send xl` gives its stream. */
export interface XenIngestData {
  readonly path: string;
}

export interface XenPrologue {
  /** Up to the first PAGE_DATA. */
  readonly bytes: Uint8Array;
  /** The domain's configuration, JSON. */
  readonly config: string;
  /** As the stream tells; undefined for a guest that is no PV one. */
  readonly pfnEnd: number | undefined;
}

/** Where the rounds of libxc are. Times are of `process.hrtime`, ms. */
export interface RoundMark {
  /** Rounds that have ended, and pages of the last of them. */
  readonly ended: number;
  readonly pages: number;
  /** When the last byte of it was read: the guest may stand since then. */
  readonly atMs: number;
}

/** What the main thread asks of the ingest. */
export type XenIngestRequests = {
  /** Connects; answers when the first page is about to come. */
  prologue: { argument: undefined; answer: XenPrologue };
  /** Reads on: pages go into the rings. */
  read: {
    argument: {
      readonly regions: readonly [ram: Region, types: Region];
      readonly rings: readonly SharedArrayBuffer[];
    };
    answer: undefined;
  };
  /** Answers when so many rounds have ended, or more. */
  round: { argument: number; answer: RoundMark };
  /** Gives what was read so far to the rings, as part of that round. */
  publish: { argument: number; answer: Pushed };
  /** Answers when the last page was read, and so the guest stands. */
  suspended: { argument: undefined; answer: RoundMark };
  /** Where all that is no page is to go. */
  saveInto: { argument: SpoolShare; answer: undefined };
  /** Answers when all of that is there, with its bytes. */
  saved: { argument: undefined; answer: number };
  /** Answers when xl has said GO: it has given the guest away, but for our word. */
  go: { argument: undefined; answer: undefined };
};

/** The clock that threads share, ms. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
