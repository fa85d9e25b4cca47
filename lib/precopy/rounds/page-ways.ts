import type { AnyTask } from '../../crew/crew.ts';
import type { SourceGuest } from '../../guest/guest.ts';
import type { GuestLayout } from '../../memory/guest-layout.ts';
import { newRing } from '../../pages/chunk-ring.ts';
import type { SendPool } from '../../pages/send-pool.ts';
import type { PagesOfLane } from '../../pages/send-protocol.ts';
import type { Link } from '../../wire/link.ts';
import { PushedRounds } from './pushed.ts';
import { ReadRounds } from './read.ts';
import type { Rounds } from './rounds.ts';

/** How the pages of a guest reach the lanes, and who makes the rounds over them. */
export interface PageWays {
  readonly pagesOf: (lane: number) => PagesOfLane;
  /** The task that fills their rings, in whose worker they are to be. */
  readonly beside?: AnyTask;
  readonly openRounds: (pool: SendPool, control: Link) => Rounds;
}

/** @param slots chunks of a lane that may be on their way at once */
export function waysOf(
  guest: SourceGuest,
  layout: GuestLayout,
  lanes: number,
  slots: number,
  hashSeed: bigint,
): PageWays {
  if (guest.pages === 'read')
    return {
      pagesOf: () => ({ memory: guest.memory }),
      openRounds: (pool, control) => new ReadRounds({ guest, layout, pool, control }),
    };
  const rings = Array.from({ length: lanes }, () => newRing(slots, hashSeed, true));
  return {
    pagesOf: (lane) => ({ ring: rings[lane]! }),
    beside: guest.ingest,
    openRounds: (pool, control) => new PushedRounds({ guest, layout, pool, control, rings }),
  };
}
