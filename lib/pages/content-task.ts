import { setTimeout as sleep } from 'node:timers/promises';
import type { Begin } from '../crew/task.ts';
import type { RegionFile } from '../memory/guest-layout.ts';
import { ContentSample, type ContentShares } from './content-sample.ts';

/** What it is begun with. */
export interface ContentData {
  readonly files: readonly RegionFile[];
  /** Over how long it spreads its work, ms. */
  readonly spreadMs: number;
}

export type ContentRequests = {
  sample: { argument: undefined; answer: ContentShares };
};

/** Looks at a sample of a guest's pages, now one and then one. */
export const begin: Begin<ContentData, ContentRequests> = ({ files, spreadMs }) => {
  const sample = new ContentSample(files);
  let ended = false;
  return {
    handlers: {
      sample: async () => {
        const pauseMs = spreadMs / Math.max(1, sample.left);
        for (; sample.left > 0 && !ended; await sleep(pauseMs)) sample.next();
        return sample.shares;
      },
    },
    close: () => {
      ended = true;
      sample.close();
    },
  };
};
