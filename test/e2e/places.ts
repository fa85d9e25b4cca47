import {
  DESTINATION_MACHINE,
  type DestinationEvent,
  startDestination,
} from '../../lib/ownership/destination-machine.ts';
import type { Machine, State } from '../../lib/ownership/machine.ts';
import {
  DESTINATION_OBLIGATIONS,
  type Obligation,
  SOURCE_OBLIGATIONS,
} from '../../lib/ownership/obligations.ts';
import {
  SOURCE_MACHINE,
  type SourceEvent,
  startSource,
} from '../../lib/ownership/source-machine.ts';
import type { Side } from './hosts.ts';

/*
 * The fault points of the handover: before and after each effect of either machine. Those that a
 * test means by name stand here; all others are asked of the machines themselves.
 */

/** What has just happened, or is about to. */
export const AT = {
  suspended: 'source.after.suspend-guest',
  toCommit: 'source.before.journal-committed',
  committed: 'source.after.journal-committed',
  toSendCommit: 'source.before.send-commit',
  commitSent: 'source.after.send-commit',
  toRelease: 'source.before.journal-released',
  toTellReleased: 'source.before.send-released',
  released: 'source.after.journal-released',
  toEndAtSource: 'source.before.journal-ended',
  toBeRunning: 'destination.before.journal-running',
  running: 'destination.after.journal-running',
  toResume: 'destination.before.resume-guest',
  resumed: 'destination.after.resume-guest',
  toEndAtDestination: 'destination.before.journal-ended',
} as const;

/** All that the source does for these events, after those before them. */
export function sourcePlaces(before: readonly SourceEvent[], then: readonly SourceEvent[]) {
  return placesOf('source', SOURCE_MACHINE, SOURCE_OBLIGATIONS, startSource(1), before, then);
}

/** All that the destination does for these events, after those before them. */
export function destinationPlaces(
  before: readonly DestinationEvent[],
  then: readonly DestinationEvent[],
) {
  return placesOf(
    'destination',
    DESTINATION_MACHINE,
    DESTINATION_OBLIGATIONS,
    startDestination(1),
    before,
    then,
  );
}

/**
 * Before and after all that the machine has done for these events, after those before them: records,
 * what they make of the copy, and what is said.
 */
function placesOf<Name extends string, Event>(
  side: Side,
  { step }: Machine<Name, Event>,
  obligations: { readonly [N in Name]?: Obligation },
  start: State<Name>,
  before: readonly Event[],
  then: readonly Event[],
): string[] {
  let state = start;
  for (const event of before) state = step(state, event, true).state;
  const names = new Set<string>();
  for (const event of then) {
    const { state: next, acts } = step(state, event, true);
    if (next.name !== state.name) {
      names.add(`journal-${next.name}`);
      const obligation = obligations[next.name];
      if (obligation) names.add(obligation.act);
    }
    for (const { type } of acts) names.add(type === 'say' ? `send-${SAYS[next.name]}` : type);
    if (next.told && !state.told) names.add('journal-ended');
    state = next;
  }
  return [...names].flatMap((name) => [`${side}.before.${name}`, `${side}.after.${name}`]);
}

/** What a state has to say, where it is not its name. */
const SAYS: Readonly<Record<string, string>> = {
  committed: 'commit',
  aborted: 'aborted',
  released: 'released',
  prepared: 'prepared',
  running: 'running',
  refused: 'refused',
  discarded: 'closed',
  superseded: 'closed',
  ended: 'closed',
};
