import type { DestinationEvent } from '../../lib/ownership/destination-machine.ts';
import type { SourceEvent } from '../../lib/ownership/source-machine.ts';
import { AT, destinationPlaces, sourcePlaces } from './places.ts';
import { AGENTS, type AgentName, type HostName, NAMES } from './site.ts';

/*
 * What befalls the six agents of three hosts while a guest is moved from host to host, as data. An
 * agent that is killed stays away until it is restarted, so the migrations that it had in hand stay
 * open while the guest moves on.
 */

/** The guest moves on from where it runs, if it does. */
export interface Move {
  readonly do: 'move';
  readonly to: HostName;
  /** Where the agents of this move are killed. */
  readonly kills?: { readonly source?: string; readonly destination?: string };
  /** Killed so long after its beginning, whatever they do. */
  readonly strikes?: readonly { readonly agent: AgentName; readonly afterMs: number }[];
}

export type Step =
  | Move
  /** Who is there goes; who is away comes back. */
  | { readonly do: 'kill' | 'restart'; readonly agents: readonly AgentName[] }
  | { readonly do: 'cut' | 'join'; readonly host: HostName };

export interface Chain {
  readonly name: string;
  /** In the end everybody comes back. */
  readonly steps: readonly Step[];
}

const suspend: SourceEvent = { type: 'suspend' };
const prepared: SourceEvent = { type: 'prepared', epoch: 1 };
const sealed: SourceEvent = { type: 'sealed', late: undefined };
const running: SourceEvent = { type: 'running', epoch: 1 };
const closed: SourceEvent = { type: 'closed', epoch: 1 };
const complete: DestinationEvent = { type: 'complete' };
const commit: DestinationEvent = { type: 'commit', epoch: 1 };
const released: DestinationEvent = { type: 'released', epoch: 1 };

const SOURCE = sourcePlaces([], [suspend, prepared, sealed, running, closed]);
const DESTINATION = destinationPlaces([], [complete, commit, released]);

/** Migrations that are open, one behind the other, when the last move begins. */
const COURSES: readonly {
  readonly name: string;
  readonly before: readonly Move[];
  to: HostName;
}[] = [
  // A does not know whether B runs it, and keeps its copy.
  { name: 'A→B, open, →C', before: [leftOpen('B', AT.commitSent)], to: 'C' },
  // A's copy is gone, and B is not told: there is room for the guest at A.
  { name: 'A→B, open, →A', before: [leftOpen('B', AT.toTellReleased)], to: 'A' },
  {
    name: 'A→B, open, →C, open, →A',
    before: [leftOpen('B', AT.toTellReleased), leftOpen('C', AT.commitSent)],
    to: 'A',
  },
];

/**
 * Killed at every effect of the last move's agents. Before one, only who was killed comes back, the
 * oldest migration's first; after one, everybody loses power, and the newest migration's comes first.
 */
export function killsInChains(): Chain[] {
  return COURSES.flatMap(({ name, before, to }) => [
    ...SOURCE.map((place) => chain(name, before, { do: 'move', to, kills: { source: place } })),
    ...DESTINATION.map((place) =>
      chain(name, before, { do: 'move', to, kills: { destination: place } }),
    ),
  ]);
}

function leftOpen(to: HostName, place: string): Move {
  return { do: 'move', to, kills: { source: place } };
}

function chain(name: string, before: readonly Move[], last: Move): Chain {
  const place = last.kills?.source ?? last.kills?.destination;
  const power = place?.includes('.after.') ?? false;
  const order = power ? AGENTS.toReversed() : AGENTS;
  return {
    name: `${name}: kill ${place}, ${power ? 'then all' : 'back one by one'}`,
    steps: [
      ...before,
      last,
      ...(power ? [{ do: 'kill', agents: AGENTS } as const] : []),
      ...order.map((agent) => ({ do: 'restart', agents: [agent] }) as const),
    ],
  };
}

/** Chains of moves, kills, absences and cuts out of `random`. */
export function* chainsAtRandom(random: () => number, network: boolean): Generator<Chain> {
  for (let i = 1; ; i++) {
    const count = 3 + Math.floor(random() * 4);
    const steps = Array.from({ length: count }, () => stepsAtRandom(random, network)).flat();
    yield { name: `random chain ${i}: ${steps.map(words).join(', ')}`, steps };
  }
}

function stepsAtRandom(random: () => number, network: boolean): Step[] {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  const steps: Step[] = [];
  const cut = network && random() < 0.15 ? pick(NAMES) : undefined;
  if (cut) steps.push({ do: 'cut', host: cut });
  steps.push({
    do: 'move',
    to: pick(NAMES),
    kills: {
      ...(random() < 0.5 && { source: pick(SOURCE) }),
      ...(random() < 0.4 && { destination: pick(DESTINATION) }),
    },
    strikes: AGENTS.filter(() => random() < 0.12).map((agent) => {
      return { agent, afterMs: Math.round(random() * 1200) };
    }),
  });
  if (cut) steps.push({ do: 'join', host: cut });
  for (const what of ['kill', 'restart'] as const) {
    const agents = AGENTS.filter(() => random() < (what === 'kill' ? 0.15 : 0.35));
    if (agents.length > 0) steps.push({ do: what, agents });
  }
  return steps;
}

function words(step: Step): string {
  switch (step.do) {
    case 'kill':
    case 'restart':
      return `${step.do} ${step.agents.join(' ')}`;
    case 'cut':
    case 'join':
      return `${step.do} ${step.host}`;
    case 'move': {
      const { to, kills = {}, strikes = [] } = step;
      const killed = Object.values(kills).map((place) => ` kill ${place}`);
      const struck = strikes.map(({ agent, afterMs }) => ` kill ${agent} at ${afterMs} ms`);
      return `→${to}${killed.join('')}${struck.join('')}`;
    }
  }
}
