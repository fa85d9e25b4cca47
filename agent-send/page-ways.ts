import type { SourceGuest } from '../lib/guest/guest.ts';
import type { GuestLayout } from '../lib/memory/guest-layout.ts';
import type { SendPool } from '../lib/pages/send-pool.ts';
import type { PagesOfWorker } from '../lib/pages/send-protocol.ts';
import type { Link } from '../lib/wire/link.ts';
import { newRings, PushedRounds } from './pushed-rounds.ts';
import { ReadRounds } from './read-rounds.ts';
import type { Rounds } from './rounds.ts';

/** How the pages of a guest reach the workers, and who makes the rounds over them. */
export interface PageWays {
  readonly pagesOf: (channel: number) => PagesOfWorker;
  readonly openRounds: (pool: SendPool, control: Link) => Rounds;
}

export function waysOf(guest: SourceGuest, layout: GuestLayout, channels: number): PageWays {
  if (guest.pages === 'read')
    return {
      pagesOf: () => ({ memory: guest.memory }),
      openRounds: (pool, control) => new ReadRounds({ guest, layout, pool, control }),
    };
  const rings = newRings(channels);
  return {
    pagesOf: (channel) => ({ ring: rings[channel]! }),
    openRounds: (pool, control) => new PushedRounds({ guest, layout, pool, control, rings }),
  };
}
