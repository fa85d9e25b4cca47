import type { DestinationStateName } from './destination-machine.ts';
import type { Choice } from './machine.ts';
import type { SourceStateName } from './source-machine.ts';

/** A power switch (or a person) has confirmed that a host was off. */
export interface Fence {
  /** As the cluster calls the host. */
  readonly node: string;
  /** When it was confirmed, ms since 1970; whole seconds, rounded down. */
  readonly atMs: number;
  /** Who has done it, for people. */
  readonly by: string;
}

/** What a migration has to be known of, to judge a fence of its other host. */
export interface Exposed {
  readonly role: 'send' | 'receive';
  readonly state: SourceStateName | DestinationStateName;
  /** When the migration began here, or was found in the journal, ms since 1970. */
  readonly sinceMs: number;
  /** When its last record was written: just before, the other host was heard. */
  readonly recordedMs: number;
}

/** The copy here stands and the other one is gone, but may have run meanwhile, or have moved on. */
const OPEN: readonly Exposed['state'][] = ['committed', 'prepared'];

/**
 * Whether a fence proves that the copy of the guest at the other host, as this migration knows it, is
 * gone. One that is older says nothing about the host that took part: it was another boot of it. Where
 * the copy here might run because of it, the fence is newer than the last that was heard of the host.
 */
export function proves({ atMs }: Fence, { state, sinceMs, recordedMs }: Exposed): boolean {
  return atMs > (OPEN.includes(state) ? recordedMs : sinceMs);
}

/**
 * The answer to `resolve` where the copy here stands, once it is known that no other host has the guest: who
 * manages the guest has to say so, as by ordering it to be started here. A guest that writes nothing but
 * its memory goes on. Any other may have run at the other host until that was off, and written to
 * disks that this copy's memory knows nothing of: it has to start anew. In all other states nothing is to be
 * answered: the guest runs here or is gone from here, and the other host is told when it is back.
 * @param memoryOnly it has nothing that it writes but its memory
 */
export function answerToStart({ state }: Exposed, memoryOnly: boolean): Choice | undefined {
  if (!OPEN.includes(state)) return undefined;
  return memoryOnly ? 'keep-here' : 'give-up';
}

/** Who decides, as in `n2 was fenced at 2026-11-30 02:00:05Z (by n1)`. */
export function fenceInWords({ node, atMs, by }: Fence): string {
  const at = new Date(atMs).toISOString().replace('T', ' ').replace('.000', '');
  return `${node} was fenced at ${at} (by ${by})`;
}
