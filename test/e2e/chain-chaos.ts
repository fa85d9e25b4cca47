import { setTimeout as sleep } from 'node:timers/promises';
import { asGodwitError } from '../../lib/errors.ts';
import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { poll } from '../../lib/poll.ts';
import type { Chain, Move, Step } from './chain-ordeals.ts';
import type { Outcome } from './chaos.ts';
import { star } from './namespaces.ts';
import { QUIET } from './ordeals.ts';
import { AGENTS, type AgentName, type HostName, NAMES, Site } from './site.ts';
import type { Watcher } from './watcher.ts';

/** So long a move is given before the next step: many never end before somebody comes back, ms. */
const STEP_MS = 12_000;
const LOOK_MS = 20;
/** A precopy of half a second or so. */
const GUEST: Partial<BootOptions> = { ...QUIET, content: 'random=100' };
const BANDWIDTH = 60_000_000;
const MAX_SUSPEND_MS = 8000;

/** A guest that is moved along a chain of hosts, and what befalls their agents. */
export class ChainTrial {
  readonly site: Site;
  readonly #watcher: Watcher<HostName>;
  readonly #cut = new Set<HostName>();
  #kills = 0;
  #cuts = 0;
  /** Agents whose end was counted. */
  readonly #counted = new Set<object>();

  private constructor(site: Site) {
    this.site = site;
    this.#watcher = site.watch();
  }

  static async prepare({ steps }: Chain): Promise<ChainTrial> {
    const network = steps.some((step) => step.do === 'cut') ? star(NAMES.length) : undefined;
    const site = await Site.start({ network });
    await site.A.boot(GUEST);
    return new ChainTrial(site);
  }

  /** All steps, and everybody back: then there is exactly one. */
  async endure({ steps }: Chain): Promise<Outcome> {
    for (const step of steps) await this.#take(step);
    const started = performance.now();
    await this.#everybodyBack();
    await this.#settled();
    const settleMs = performance.now() - started;
    const there = await this.site.exactlyOne();
    this.#count();
    return {
      outcome: there === 'A' ? 'stayed' : 'moved',
      settleMs,
      kills: this.#kills,
      stops: 0,
      cuts: this.#cuts,
      looks: this.#watcher.looks,
    };
  }

  async #take(step: Step): Promise<void> {
    switch (step.do) {
      case 'move':
        return this.#move(step);
      case 'kill':
        await Promise.all(step.agents.map((agent) => this.#kill(agent)));
        return;
      case 'restart':
        for (const agent of step.agents) await this.#comeBack(agent);
        return;
      case 'cut':
        this.site.network!.cut(NAMES.indexOf(step.host));
        this.#cut.add(step.host);
        this.#cuts++;
        return;
      case 'join':
        return this.#join(step.host);
    }
  }

  async #move({ to, kills = {}, strikes = [] }: Move): Promise<void> {
    const from = await this.#whereItRuns();
    if (from === undefined || from === to) return;
    const source: AgentName = `${from}.send`;
    const destination: AgentName = `${to}.recv`;
    await this.#arm(source, kills.source);
    await this.#arm(destination, kills.destination);
    const id = await this.#begin(from, to);
    if (id === undefined) return;
    const struck = strikes.map(async ({ agent, afterMs }) => {
      await sleep(afterMs);
      await this.#kill(agent);
    });
    await poll(STEP_MS, LOOK_MS, async () => {
      const gone = [source, destination].some((agent) => !this.site.agent(agent).alive);
      return gone || (await this.#ended(from, id)) || undefined;
    });
    await Promise.all(struck);
    this.#count();
  }

  /** Where the guest runs; when nobody runs it, everybody has to come back first. */
  async #whereItRuns(): Promise<HostName | undefined> {
    const look = () => this.#watcher.running[0];
    const there = await poll(1000, LOOK_MS, look);
    if (there !== undefined) return there;
    await this.#everybodyBack();
    return poll(STEP_MS, LOOK_MS, look);
  }

  /** An agent that is to die somewhere is started anew for it; one that is away comes back. */
  async #arm(agent: AgentName, place: string | undefined): Promise<void> {
    if (place === undefined && this.site.agent(agent).alive) return;
    await this.#kill(agent);
    await this.site.startAgent(agent, place && `kill@${place}`);
  }

  /** Its id; undefined when an agent says no, which it may. */
  async #begin(from: HostName, to: HostName): Promise<string | undefined> {
    const { address, port } = this.site[to];
    try {
      const view = await this.site[from]
        .client('send')
        .request<MigrationView>(...(['POST', '/migrations'] as const), {
          ...{ guest: 'vm1', host: address, port, policy: 'contract' },
          limits: { maxSuspendMs: MAX_SUSPEND_MS },
          ...{
            compression: 'off',
            verify: false,
            bandwidth: BANDWIDTH,
            suspendBandwidth: BANDWIDTH,
          },
        });
      return view.id;
    } catch (error) {
      if (asGodwitError(error).code === 'internal') throw error;
      return undefined;
    }
  }

  async #ended(from: HostName, id: string): Promise<boolean> {
    const list = await this.site[from].list('send').catch(() => []);
    return list.some((view) => view.id === id && view.phase === 'ended');
  }

  async #kill(agent: AgentName): Promise<void> {
    await this.site.agent(agent).end('SIGKILL');
    this.#count();
  }

  #join(host: HostName): void {
    if (this.#cut.delete(host)) this.site.network!.join(NAMES.indexOf(host));
  }

  async #everybodyBack(): Promise<void> {
    for (const host of NAMES) this.#join(host);
    for (const agent of AGENTS) await this.#comeBack(agent);
  }

  async #comeBack(agent: AgentName): Promise<void> {
    if (this.site.agent(agent).alive) return;
    this.#count();
    await this.site.startAgent(agent);
  }

  /** A fault may still be waiting for its place: who dies of it is brought back, as an init would. */
  async #settled(): Promise<void> {
    let over = false;
    const supervise = async () => {
      for (; !over; await sleep(LOOK_MS)) await this.#everybodyBack();
    };
    await Promise.all([
      supervise(),
      this.site.settled().finally(() => {
        over = true;
      }),
    ]);
  }

  /** Each process that was killed, once. */
  #count(): void {
    for (const name of AGENTS) {
      const agent = this.site.agent(name);
      if (agent.alive || this.#counted.has(agent)) continue;
      this.#counted.add(agent);
      this.#kills++;
    }
  }
}
