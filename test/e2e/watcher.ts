import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';

/** Between two looks at a copy, ms. */
const LOOK_MS = 3;

/** What a copy said of itself, and when it was asked and answered. */
interface Sight {
  readonly askedMs: number;
  readonly answeredMs: number;
  readonly status: string;
  /** The guest's own count of its heartbeats, which goes on wherever it is moved. */
  readonly ticks: number;
  readonly lastSuspension: unknown;
}

/**
 * Asks all copies of a guest all the time whether they run. Two facts prove that there were two:
 *
 * - A copy runs with fewer heartbeats behind it than another one was seen to have before: it is of
 *   the past, and the guest runs on from there a second time.
 * - A copy runs before and after a question to which another one says that it runs, and has not been
 *   suspended meanwhile.
 */
export class Watcher<Place extends string> {
  readonly #copies: readonly Copy<Place>[];
  readonly #done: Promise<unknown>;
  #stopped = false;
  #looks = 0;
  #violation: string | undefined;

  /** @param sockets where the copies are, by the names of the places */
  constructor(sockets: Readonly<Record<Place, string>>) {
    const places = Object.keys(sockets) as Place[];
    this.#copies = places.map((place) => new Copy(place, sockets[place]));
    this.#done = Promise.all(this.#copies.map((copy) => this.#watch(copy)));
  }

  /** What the copy there last said of itself; undefined when there is none. */
  status(place: Place): string | undefined {
    return this.#copies.find((copy) => copy.place === place)?.sight?.status;
  }

  /** Where the guest says that it runs. */
  get running(): readonly Place[] {
    return this.#copies.filter(({ sight }) => runs(sight)).map(({ place }) => place);
  }

  /** How often all copies were asked. */
  get looks(): number {
    return Math.floor(this.#looks / this.#copies.length);
  }

  /** In words, when two copies have run. */
  get violation(): string | undefined {
    return this.#violation;
  }

  /** A person has decided that a copy of the past runs: what was seen before counts no more. */
  forgive(): void {
    this.#violation = undefined;
    for (const copy of this.#copies) copy.forget();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const copy of this.#copies) copy.close(); // one whose process stands still never answers
    await this.#done;
    for (const copy of this.#copies) copy.close();
  }

  async #watch(copy: Copy<Place>): Promise<void> {
    for (; !this.#stopped; await sleep(LOOK_MS)) {
      const others = this.#copies.filter((other) => other !== copy);
      const ahead = others.map(({ mostTicks }) => mostTicks);
      const before = copy.sight;
      const now = await copy.look();
      this.#looks++;
      if (!runs(now)) continue;
      others.forEach((other, i) => {
        if (ahead[i]! > now.ticks)
          this.#violation ??= `two guests: the one at ${copy.place} runs at heartbeat ${now.ticks}, the one at ${other.place} was at ${ahead[i]}`;
        if (runs(before) && ranBetween(before, now, other.sight))
          this.#violation ??= `two guests: ${copy.place} and ${other.place} run at one time`;
      });
    }
  }
}

function runs(sight: Sight | undefined): sight is Sight {
  return sight?.status === 'running';
}

function ranBetween(before: Sight, now: Sight, other: Sight | undefined): boolean {
  return (
    runs(other) &&
    other.askedMs >= before.answeredMs &&
    other.answeredMs <= now.askedMs &&
    isDeepStrictEqual(before.lastSuspension, now.lastSuspension)
  );
}

/** One host's copy of the guest, whenever there is one. */
class Copy<Place> {
  readonly place: Place;
  readonly #socket: string;
  #client: ControlClient | undefined;
  sight: Sight | undefined;
  /** The most that a copy here was seen to run with. */
  mostTicks = 0;

  constructor(place: Place, socket: string) {
    this.place = place;
    this.#socket = socket;
  }

  async look(): Promise<Sight | undefined> {
    try {
      this.#client ??= await ControlClient.connect(this.#socket, 'watched');
      this.sight = await ask(this.#client);
      if (runs(this.sight)) this.mostTicks = Math.max(this.mostTicks, this.sight.ticks);
    } catch {
      this.close(); // there is none yet, or none any more
    }
    return this.sight;
  }

  forget(): void {
    this.mostTicks = 0;
    this.sight = undefined;
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
    this.sight = undefined;
  }
}

async function ask(client: ControlClient): Promise<Sight> {
  const askedMs = performance.now();
  const { status } = await client.execute<{ status: string }>('query-status');
  const heart = await client.execute<Pick<Sight, 'ticks' | 'lastSuspension'>>('query-heartbeat');
  return { askedMs, answeredMs: performance.now(), status, ...heart };
}
