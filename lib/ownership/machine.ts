import type { GodwitError } from '../errors.ts';

/*
 * What the machines of both sides have in common. They are pure: an event in, a state and what is to
 * be done out; no socket, file, clock or worker. What a state demands of the copy here
 * (obligations.ts) and what it says to the other side follows from the state itself; the driver
 * sees to both, however often it takes.
 */

export interface State<Name extends string> {
  readonly name: Name;
  /** Of the decision that the state rests on; grows over all migrations of the guest. */
  readonly epoch: number;
  /** The other side needs to hear nothing more: ended as soon as the obligation holds. */
  readonly told: boolean;
  /** Source, committed: it wants the guest back if the destination has not run it, and why. */
  readonly withdrawn?: GodwitError;
  /** Destination: the source waits for Closed. */
  readonly asked?: true;
}

export type Act =
  | { readonly type: 'suspend-guest' }
  /** A hypervisor that would resume the guest when this agent dies does so no more. */
  | { readonly type: 'seal-guest' }
  /** Says, as soon as the obligation holds, what the state has to say; again if it was said. */
  | { readonly type: 'say' }
  /** The answer to Recover: where this side stands. `moved`: the guest has gone on from here. */
  | { readonly type: 'send-recovered'; readonly epoch: number; readonly state: string }
  /** Ends the connection with the reason. */
  | { readonly type: 'hang-up'; readonly error: GodwitError };

export interface Step<Name extends string> {
  readonly state: State<Name>;
  /** Why the state is what it is; kept with its record. */
  readonly error?: GodwitError | undefined;
  readonly acts: readonly Act[];
  /** How the migration went is known: what may follow is between the agents. */
  readonly report?: { readonly moved: boolean; readonly error: GodwitError | undefined };
}

/** A person's decision, when the other host is gone for good. */
export type Choice = 'keep-here' | 'give-up';

export interface Decision {
  readonly type: Choice;
  readonly error: GodwitError;
}

/** Events that both machines take besides their own. */
export type CommonEvent =
  /** A cancel, the policy, a deadline, or a failure on this side. */
  | { readonly type: 'abort'; readonly error: GodwitError }
  /** The link to the other side is given up, by the peer's Abort or because nobody came back. */
  | { readonly type: 'lost'; readonly error: GodwitError }
  /** This agent was started again and has read this state from its journal. */
  | { readonly type: 'restart'; readonly error: GodwitError }
  /** A record that had to be durable before the next step is not in the journal. */
  | { readonly type: 'unwritten'; readonly error: GodwitError }
  /** The copy here is proved gone, by whatever it went. */
  | { readonly type: 'gone' }
  | Decision;

export interface Machine<Name extends string, Event> {
  /** @param owns whether this migration's is still the guest's newest record on this host */
  readonly step: (state: State<Name>, event: Event, owns: boolean) => Step<Name>;
  /** States that are entered by a durable record only; without it the machine hears `unwritten`. */
  readonly gates: readonly Name[];
  /** States whose record must be durable before the copy is touched in them. */
  readonly writtenFirst: readonly Name[];
  /** Where nothing more is done to the copy once the obligation holds: another migration may begin. */
  readonly atRest: readonly Name[];
  /** Where the migration ends once the other side was told. */
  readonly ending: readonly Name[];
}

/** Stays where it is. */
export function stay<Name extends string>(state: State<Name>, ...acts: Act[]): Step<Name> {
  return { state, acts };
}

export const SAY: Act = { type: 'say' };
