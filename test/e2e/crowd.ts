import type { EvacuationView } from '../../lib/evacuation/view.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { until } from './daemon.ts';
import { type Holdings, holdings } from './endurance.ts';
import { Hosts } from './hosts.ts';

/** Between looks at the agents and at all migrations, ms. */
const LOOK_MS = 200;
/** Long enough for many batches of each guest, ms; and of fewer guests than this evenness says nothing. */
const STRETCH_MS = 3000;
const FEWEST = 3;
/** Guests that are booted at a time: each is a process that starts. */
const BOOTS = 4;
/** Only a broken product takes longer, ms. */
const BOUND_MS = 1_200_000;

export interface Crowd {
  readonly guests: number;
  /** Of each guest, as `--memory` of a VMM. */
  readonly memory: string;
  /** None is moved before all are on their way. */
  readonly together: boolean;
  /** Of all together, as `--bandwidth` of an evacuation; undefined: no cap. */
  readonly bandwidth: string | undefined;
}

/** What a daemon had before, and the most of it that was seen meanwhile. */
export interface Burden {
  readonly agent: string;
  readonly before: Holdings;
  readonly most: Holdings;
}

export interface Evacuated {
  readonly burdens: readonly Burden[];
  /** The evacuation as it ended. */
  readonly view: EvacuationView;
  /** Most migrations that were in their rounds at one look. */
  readonly atOnce: number;
  /** Why guests had to be tried again, as the agent has logged it. */
  readonly waits: readonly string[];
  /** How evenly they got on in each stretch of time, `jainIndex`. */
  readonly evenness: readonly number[];
}

/** Moves all guests of a host to another one at once, through one pair of daemons. */
export async function evacuate({ guests, memory, bandwidth, together }: Crowd): Promise<Evacuated> {
  const hosts = await Hosts.start({ recv: ['--max-migrations', `${guests}`] });
  try {
    const { source, destination } = hosts;
    const names = Array.from({ length: guests }, (_, i) => `vm${i + 1}`);
    for (let i = 0; i < guests; i += BOOTS)
      await Promise.all(names.slice(i, i + BOOTS).map((name) => boot(hosts, name, memory)));
    const daemons = [
      { agent: 'agent-send', pid: source.send.process.pid! },
      { agent: 'agent-recv', pid: destination.recv.process.pid! },
    ];
    const before = daemons.map(({ pid }) => holdings(pid));
    let most = before;
    const stretches = new Stretches();
    let atOnce = 0;
    let areHeld = together;

    // No limit is tried here, and what compresses would hide what the link gives to each.
    const terms = ['--max-suspend-time', '60s', '--no-compression', '--parallel', `${guests}`];
    const cap = bandwidth === undefined ? [] : ['--bandwidth', bandwidth];
    const hold = together ? ['--hold'] : [];
    const options = [...terms, ...cap, ...hold, '--detach'];
    const begun = await source.run(['evacuate', hosts.target, ...options]);
    if (begun.code !== 0) throw new Error(begun.stderr);
    const client = source.client('send');
    let view: EvacuationView | undefined;
    const isOver = async () => {
      const [{ evacuation }, views] = await Promise.all([
        client.request<{ evacuation: EvacuationView }>('GET', '/evacuation'),
        source.list('send'),
      ]);
      most = most.map((held, i) => atMost(held, holdings(daemons[i]!.pid)));
      const running = views.filter(({ phase }) => phase === 'precopy');
      atOnce = Math.max(atOnce, running.length);
      stretches.look(running);
      if (areHeld && running.length === guests && running.every(({ hold }) => hold?.ready)) {
        areHeld = false;
        const go = ({ id }: MigrationView) =>
          client.request('PATCH', `/migrations/${id}`, { hold: null });
        await Promise.all(running.map(go));
      }
      view = evacuation;
      if (evacuation.outcome !== undefined) return true;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      return false;
    };
    await until(isOver, 'all guests have moved', BOUND_MS);
    for (const { name, end } of view!.leaving)
      await (end?.outcome === 'completed' ? destination : source).mustRun(name);
    const burdens = daemons.map(({ agent }, i) => {
      return { agent, before: before[i]!, most: most[i]! };
    });
    const waits = [...source.send.log.matchAll(/ (vm\d+ waits: .*)/g)].map(([, text]) => text!);
    return { burdens, view: view!, atOnce, evenness: stretches.evenness, waits };
  } finally {
    await hosts.end();
  }
}

function boot(hosts: Hosts, name: string, memory: string) {
  const busy = { workload: 'hot-set', workingSet: '1MiB', rate: 50 };
  return hosts.source.boot({ name, memory, vcpus: 1, ...busy, content: 'random=100' });
}

/** What guests send of their first pass, of which each has more than enough, in one stretch of time after the other. */
class Stretches {
  readonly evenness: number[] = [];
  #from: ReadonlyMap<string, number> = new Map();
  #sinceMs = Number.NEGATIVE_INFINITY;

  look(running: readonly MigrationView[]): void {
    const now = performance.now();
    if (now - this.#sinceMs < STRETCH_MS) return;
    const sending = running.filter(
      ({ round, roundPages, roundSent }) => round === 1 && roundSent < roundPages,
    );
    const shares = sending.flatMap(({ id, wireBytes }) => {
      const before = this.#from.get(id);
      return before === undefined ? [] : [wireBytes - before];
    });
    if (shares.length >= FEWEST) this.evenness.push(jainIndex(shares));
    this.#sinceMs = now;
    this.#from = new Map(sending.map(({ id, wireBytes }) => [id, wireBytes]));
  }
}

function atMost(one: Holdings, other: Holdings): Holdings {
  return {
    descriptors: Math.max(one.descriptors, other.descriptors),
    threads: Math.max(one.threads, other.threads),
    rssMiB: Math.max(one.rssMiB, other.rssMiB),
  };
}

/**
 * How evenly something is shared: 1 when all have the same, 1/n when one has all. R. Jain, D. Chiu and
 * W. Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
 */
export function jainIndex(shares: readonly number[]): number {
  const sum = shares.reduce((all, one) => all + one, 0);
  const squares = shares.reduce((all, one) => all + one * one, 0);
  if (squares === 0) return 1; // nobody has anything
  return (sum * sum) / (shares.length * squares);
}
