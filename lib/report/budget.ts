import type { Story } from './story.ts';
import { heldIn, suspendedIn } from './story.ts';
import { isFigure, plural } from './words.ts';

/** A use that time was put to. */
export interface Share {
  readonly name: string;
  readonly ms: number;
  /** Class of its fill. */
  readonly fill: string;
}

interface Kind {
  readonly name: string;
  readonly fill: string;
  readonly spells: readonly (readonly [number, number])[];
}

/**
 * Where the time of a migration went: every moment counts once, for what came first of what it was,
 * so that the shares are all of it. Empty when no round has ended.
 */
export function timeBudget(story: Story): Share[] {
  const { until } = story;
  const kinds = kindsOf(story);
  const edges = kinds.flatMap(({ spells }, kind) =>
    spells
      .filter(([from, to]) => isFigure(from) && isFigure(to) && to > from)
      .flatMap(([from, to]) => [
        { at: Math.min(until, Math.max(0, from)), kind, by: 1 },
        { at: Math.min(until, Math.max(0, to)), kind, by: -1 },
      ]),
  );
  edges.sort((a, b) => a.at - b.at);
  const open = kinds.map(() => 0);
  const ms = kinds.map(() => 0);
  let last = 0;
  for (const { at, kind, by } of [...edges, { at: until, kind: 0, by: 0 }]) {
    const counts = open.findIndex((spells) => spells > 0);
    if (counts >= 0) ms[counts]! += at - last;
    last = at;
    open[kind]! += by;
  }
  const order = story.rounds.length === 0 ? [] : ORDER;
  return order.flatMap((name) => {
    const i = kinds.findIndex(({ fill }) => fill === `budget-${name}`);
    const { name: shown, fill } = kinds[i]!;
    return ms[i]! > 0 ? [{ name: shown, fill, ms: ms[i]! }] : [];
  });
}

/** As they follow each other. */
const ORDER = ['before', 'first', 'later', 'between', 'held', 'lost', 'suspended', 'after'];

/** What counts before what. */
function kindsOf(story: Story): Kind[] {
  const { rounds, outages, suspension, until, end } = story;
  const suspended = suspendedIn(story);
  const precopy = rounds.filter(({ stopAndCopy }) => !stopAndCopy);
  const spell = ({ at, ms }: { at: number; ms: number }) => [at - ms, at] as const;
  const [first, ...later] = precopy;
  const hold = heldIn(story);
  const begun = first === undefined ? (suspended?.[0] ?? until) : first.at - first.ms;
  const over = suspended?.[1] ?? rounds.at(-1)?.at ?? until;
  const after =
    suspension === undefined
      ? 'from the last round to the end'
      : suspension.side === 'destination'
        ? 'letting go of the copy here'
        : 'giving it up';
  return [
    kind('suspended', 'guest suspended', suspended === undefined ? [] : [suspended]),
    kind(
      'lost',
      `without a connection${outages.length > 1 ? `, ${plural(outages.length, 'time')}` : ''}`,
      outages.map(({ at, ms }) => [at, at + ms] as const),
    ),
    kind('before', 'connecting, making room', [[0, begun]]),
    kind('first', 'round 1, all memory', first === undefined ? [] : [spell(first)]),
    kind(
      'later',
      later.length === 1 ? 'round 2' : `rounds 2 to ${later.length + 1}`,
      later.map(spell),
    ),
    kind('after', end === undefined ? 'since then' : after, [[over, until]]),
    kind(
      'held',
      'held, nothing sent',
      hold === undefined ? [] : [[hold.from.at, hold.from.at + hold.ms]],
    ),
    kind('between', 'between rounds', [[0, until]]),
  ];
}

function kind(fill: string, name: string, spells: Kind['spells']): Kind {
  return { name, fill: `budget-${fill}`, spells };
}
