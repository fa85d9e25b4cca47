import { GodwitError } from '../errors.ts';
import { RUN_STATE_WORDS } from '../guest/run-state.ts';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { GuestView } from '../migration/view.ts';
import type { GuestProfile } from '../precopy/profile.ts';
import { destinationFor } from './queue.ts';
import type { EvacuationRequest, Leaving, LeftOut, Order, PlannedGuest, Refusal } from './view.ts';

/** What is said of guests that cannot be looked at because an agent has them: they can be waited for. */
const IN_HANDS = /^(migrating|its profile is being taken)$/;

/** Who leaves, in order, and who does not. @throws GodwitError unknown-guest, bad-option */
export function chosen(
  here: readonly GuestView[],
  { guests, order }: EvacuationRequest,
  profile: (guest: string) => GuestProfile | undefined,
): { readonly leaving: readonly Leaving[]; readonly leftOut: readonly LeftOut[] } {
  const unknown = guests?.find((name) => here.every((one) => one.name !== name));
  if (unknown !== undefined)
    throw new GodwitError('unknown-guest', `no guest "${unknown}" on this host; see guests`);
  const wanted = here.filter(({ name }) => guests?.includes(name) ?? true);
  const leftOut = guests === undefined ? wanted.flatMap(reasonToStay) : [];
  const leaving = wanted.filter(({ name }) => leftOut.every((one) => one.name !== name));
  if (leaving.length === 0) {
    const why = leftOut.map((one) => `${one.name}: ${one.why}`).join('; ');
    throw new GodwitError('bad-option', `no guest of this host can be moved${why && ` (${why})`}`);
  }
  const sorted = leaving.toSorted(by(order, profile));
  return { leaving: sorted.map(waiting), leftOut };
}

function reasonToStay(guest: GuestView): LeftOut[] {
  const { name } = guest;
  if ('trouble' in guest) return IN_HANDS.test(guest.trouble) ? [] : [{ name, why: guest.trouble }];
  const { state } = guest;
  return state === 'running' || state === 'paused'
    ? []
    : [{ name, why: `it ${RUN_STATE_WORDS[state]}` }];
}

function waiting(guest: GuestView): Leaving {
  const { name } = guest;
  const none = { tries: 0, troubles: 0, detours: 0, refused: [], raisedMs: [] };
  return { name, memoryBytes: memoryOf(guest), ...none };
}

function memoryOf(guest: GuestView): number | undefined {
  return 'memoryBytes' in guest ? guest.memoryBytes : undefined;
}

/** What nobody knows comes last; names decide between equals. */
function by(order: Order, profile: (guest: string) => GuestProfile | undefined) {
  const keys: Readonly<Record<Order, (guest: GuestView) => number | undefined>> = {
    name: () => 0,
    smallest: memoryOf,
    steadiest: ({ name }) => dirtyRate(profile(name)),
  };
  const key = (guest: GuestView) => keys[order](guest) ?? Number.POSITIVE_INFINITY;
  const size = (guest: GuestView) => memoryOf(guest) ?? Number.POSITIVE_INFINITY;
  const compare = (a: number, b: number) => (a === b ? 0 : a - b);
  return (a: GuestView, b: GuestView) =>
    compare(key(a), key(b)) ||
    (order === 'name' ? 0 : compare(size(a), size(b))) ||
    (a.name < b.name ? -1 : 1);
}

/** Bytes a second that a guest dirties again and again: those of its longest window. */
function dirtyRate(profile: GuestProfile | undefined): number | undefined {
  const window = profile?.workingSet.at(-1);
  return window && (window.pages * PAGE_SIZE * 1000) / window.windowMs;
}

/** What one destination says to one guest: its refusal, or what keeps the guest here in any case. */
export interface Answer {
  readonly destination: string | undefined;
  readonly code: string;
  readonly message: string;
}

/**
 * Asks one destination after the other, until one would take the guest.
 * @param ask undefined: it would
 */
export async function plan(
  { name, memoryBytes }: Leaving,
  destinations: readonly string[],
  ask: (destination: string) => Promise<Answer | undefined>,
): Promise<PlannedGuest> {
  const refused: Refusal[] = [];
  for (;;) {
    const destination = destinationFor({ refused, detours: 0 }, destinations);
    if (destination === undefined) return { name, memoryBytes, refused };
    const answer = await ask(destination);
    if (answer === undefined) return { name, memoryBytes, destination, refused };
    const { code, message } = answer;
    if (answer.destination === undefined)
      return { name, memoryBytes, refused, why: `${message} (${code})` };
    refused.push({ destination, code, message });
  }
}
