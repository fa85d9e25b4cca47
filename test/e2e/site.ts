import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { until } from './daemon.ts';
import { Host, type HostOptions, type Role } from './host.ts';
import type { Star } from './namespaces.ts';
import { Watcher } from './watcher.ts';

export const NAMES = ['A', 'B', 'C'] as const;
export type HostName = (typeof NAMES)[number];
/** Where hosts are that show certificates, in that order. */
export const LOOPBACKS = ['127.0.0.1', '127.0.0.2', '127.0.0.3'] as const;
/** An agent of the site: `A.send`, `C.recv`. */
export type AgentName = `${HostName}.${Role}`;
export const AGENTS: readonly AgentName[] = NAMES.flatMap(
  (name) => [`${name}.send`, `${name}.recv`] as const,
);

/** Short, so that silence and loss are noticed soon; a machine with much else to do stands still for a second. */
const LIMITS = ['--peer-timeout', '3s', '--reconnect-timeout', '8s'];
const SEND_LIMITS = [...LIMITS, '--connect-timeout', '3s'];
/** Only a broken product takes longer to settle. */
const SETTLE_BOUND_MS = 60_000;

export interface SiteOptions extends Pick<HostOptions, 'send' | 'recv'> {
  /** Those that are started; all, when nothing is said. */
  readonly agents?: readonly AgentName[];
  /** A network that can be cut at each host. */
  readonly network?: Star | undefined;
  /** TLS options of a host's agents, for a certificate of its address (`LOOPBACKS`). */
  readonly tls?: (address: string) => readonly string[];
  /** What befalls the agents that are started first. */
  readonly faults?: { readonly [A in AgentName]?: string | undefined };
  /** More in the environment of a host's agents; told where the host's files are. */
  readonly env?: { readonly [N in HostName]?: (dir: string) => NodeJS.ProcessEnv };
  /** State directories that are not where they usually are. */
  readonly stateDirs?: { readonly [A in AgentName]?: string };
}

/** Three hosts on one machine, each with both agents: guests can be moved from any to any. */
export class Site {
  readonly dir: string;
  readonly A: Host;
  readonly B: Host;
  readonly C: Host;
  readonly network: Star | undefined;
  readonly #watchers: Watcher<HostName>[] = [];
  #ended = false;

  private constructor(options: SiteOptions) {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-site-'));
    this.network = options.network;
    this.A = this.#host('A', options);
    this.B = this.#host('B', options);
    this.C = this.#host('C', options);
  }

  static async start(options: SiteOptions = {}): Promise<Site> {
    const site = new Site(options);
    try {
      const { faults = {}, agents = AGENTS } = options;
      await Promise.all(agents.map((agent) => site.startAgent(agent, faults[agent])));
    } catch (error) {
      await site.destroy();
      throw error;
    }
    return site;
  }

  #host(name: HostName, options: SiteOptions): Host {
    const { send = [], recv = [], network, tls, env, stateDirs } = options;
    const at = (...names: string[]) => path.join(this.dir, name, ...names);
    fs.mkdirSync(at(), { mode: 0o700 });
    const ramDir = fs.mkdtempSync(`/dev/shm/godwit-site-${name}-`);
    const stateDir = (role: Role) => stateDirs?.[`${name}.${role}`] ?? at(role);
    const places = {
      dir: at(),
      guestDir: at('guests'),
      ramDir,
      bootRamDir: ramDir,
      hostDir: at('host'),
      sockets: { send: at('send.sock'), recv: at('recv.sock') },
      stateDirs: { send: stateDir('send'), recv: stateDir('recv') },
    };
    const i = NAMES.indexOf(name);
    const security = tls?.(LOOPBACKS[i]!) ?? (network ? ['--insecure'] : []);
    return new Host(name, places, {
      address: tls ? LOOPBACKS[i] : network?.addresses[i],
      prefix: network?.prefixes[i],
      send: [...SEND_LIMITS, '--ram-dir', ramDir, ...send, ...security],
      recv: [...LIMITS, ...recv, ...security],
      env: env?.[name]?.(at()),
    });
  }

  get hosts(): readonly Host[] {
    return [this.A, this.B, this.C];
  }

  agent(name: AgentName) {
    const [host, role] = split(name);
    return this[host].agent(role);
  }

  /** With the state directory, port and socket that it had, if it was started before. */
  startAgent(name: AgentName, fault?: string): Promise<void> {
    const [host, role] = split(name);
    return this[host].start(role, fault);
  }

  /** Ends the agents as power cuts of their own would. */
  async kill(...names: AgentName[]): Promise<void> {
    await Promise.all(names.map((name) => this.agent(name).end('SIGKILL')));
  }

  async restart(...names: AgentName[]): Promise<void> {
    for (const name of names) {
      await this.agent(name).end('SIGKILL');
      await this.startAgent(name);
    }
  }

  /** Waits until the fault has killed the agent. */
  async struck(name: AgentName): Promise<void> {
    const agent = this.agent(name);
    await until(() => !agent.alive, `agent ${name} meets its fault`);
    assert.equal(agent.process.signalCode, 'SIGKILL', agent.log);
  }

  /** Watches all copies of the guest from here on. */
  watch(name = 'vm1'): Watcher<HostName> {
    const [A, B, C] = this.hosts.map((host) => host.socketOf(name));
    const watcher = new Watcher<HostName>({ A: A!, B: B!, C: C! });
    this.#watchers.push(watcher);
    return watcher;
  }

  /** Waits until no agent has anything open, in memory or in its journal. */
  async settled(boundMs = SETTLE_BOUND_MS): Promise<void> {
    let open: readonly unknown[] = [];
    await until(
      async () => {
        open = await this.#open();
        return open.length === 0;
      },
      'nothing is open',
      boundMs,
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(open)}`);
    });
  }

  async #open(): Promise<readonly unknown[]> {
    const inJournals = this.hosts.flatMap((host) => host.openInJournals());
    if (inJournals.length > 0) return inJournals;
    const lists = await Promise.all(
      AGENTS.filter((name) => this.agent(name) !== undefined).map((name) => {
        const [host, role] = split(name);
        return this[host].list(role);
      }),
    ).catch((error: Error) => [[{ phase: error.message }]]); // an agent is away
    return lists.flat().filter(({ phase }) => phase !== 'ended');
  }

  /** Exactly one copy runs, whole, and there is no other. @returns where */
  async exactlyOne(name = 'vm1'): Promise<HostName> {
    const statuses = await Promise.all(this.hosts.map((host) => host.status(name)));
    const running = NAMES.filter((_, i) => statuses[i] === 'running');
    assert.equal(running.length, 1, `at A, B and C: ${JSON.stringify(statuses)}`);
    const [there] = running as [HostName];
    await this[there].mustRun(name);
    for (const host of this.hosts) if (host.name !== there) await host.mustBeGone(name);
    for (const { violation } of this.#watchers) assert.equal(violation ?? 'never two', 'never two');
    return there;
  }

  mustLive(): void {
    for (const host of this.hosts) host.mustLive();
  }

  /** All that is known, for whoever looks for the reason of a failure. */
  story(): string {
    const open = this.hosts.flatMap((host) => host.openInJournals());
    const logs = this.hosts.map((host) => host.story());
    return `open in the journals: ${JSON.stringify(open)}\n${logs.join('')}`;
  }

  /** After a test: with its story when it has failed. Nothing when there was no site for it. */
  async finish(failed: boolean): Promise<void> {
    if (this.#ended) return;
    if (!failed) return this.end();
    process.stderr.write(this.story());
    await this.destroy();
  }

  /** Ends everything; fails when something is left over. */
  async end(signal?: NodeJS.Signals): Promise<void> {
    this.#ended = true;
    for (const watcher of this.#watchers) await watcher.stop();
    try {
      const agents = Promise.all(this.hosts.map((host) => host.endAgents(signal)));
      const guests = () => Promise.all(this.hosts.map((host) => host.endGuests()));
      await agents.finally(guests);
    } finally {
      this.network?.close();
      for (const { places } of this.hosts)
        fs.rmSync(places.ramDir, { recursive: true, force: true });
      fs.rmSync(this.dir, { recursive: true, force: true });
    }
  }

  /** Ends everything by force, after a failure. */
  async destroy(): Promise<void> {
    await this.end('SIGKILL').catch((error) => process.stderr.write(`${error.message}\n`));
  }
}

export function split(agent: AgentName): [HostName, Role] {
  return agent.split('.') as [HostName, Role];
}
