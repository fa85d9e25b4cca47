import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import type { Hosts, Side } from './hosts.ts';

/** Between two looks at both copies, ms. */
const LOOK_MS = 3;

/**
 * Asks both copies of a guest all the time whether they run. Once the destination's has run, the
 * source's never may again: so a source that says "running" to a question that was put after the
 * destination had said so proves that there were two.
 */
export class Watcher {
  readonly #copies: Readonly<Record<Side, Copy>>;
  readonly #done: Promise<void>;
  #stopped = false;
  #looks = 0;
  #destinationRanMs: number | undefined;
  #two: string | undefined;

  constructor(hosts: Hosts, name = 'vm1') {
    const copy = (side: Side) => new Copy(path.join(hosts.guestDirOf(side), `${name}.sock`), name);
    this.#copies = { source: copy('source'), destination: copy('destination') };
    this.#done = this.#watch();
  }

  /** What the copy on that side last said of itself; undefined when there is none. */
  status(side: Side): string | undefined {
    return this.#copies[side].status;
  }

  /** How often both were asked. */
  get looks(): number {
    return this.#looks;
  }

  /** In words, when two copies have run. */
  get violation(): string | undefined {
    return this.#two;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
    for (const copy of Object.values(this.#copies)) copy.close();
  }

  async #watch(): Promise<void> {
    const { source, destination } = this.#copies;
    for (; !this.#stopped; await sleep(LOOK_MS)) {
      const destinationRuns = (await destination.ask()) === 'running';
      if (destinationRuns) this.#destinationRanMs ??= performance.now();
      const sourceRuns = (await source.ask()) === 'running';
      if (sourceRuns && this.#destinationRanMs !== undefined) {
        const ms = Math.round(performance.now() - this.#destinationRanMs);
        const both = destinationRuns ? ', and both do now' : '';
        this.#two ??= `two guests: the source's runs ${ms} ms after the destination's did${both}`;
      }
      this.#looks++;
    }
  }
}

/** One side's copy of the guest, whenever there is one. */
class Copy {
  readonly #socket: string;
  readonly #name: string;
  #client: ControlClient | undefined;
  status: string | undefined;

  constructor(socket: string, name: string) {
    this.#socket = socket;
    this.#name = name;
  }

  async ask(): Promise<string | undefined> {
    try {
      this.#client ??= await ControlClient.connect(this.#socket, this.#name);
      this.status = (await this.#client.execute<{ status: string }>('query-status')).status;
    } catch {
      // There is none yet, or none any more.
      this.close();
      this.status = undefined;
    }
    return this.status;
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }
}
