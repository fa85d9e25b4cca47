import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient as AgentClient } from '../../lib/cli/client.ts';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { openEntries } from '../../lib/ownership/journal/journal.ts';
import { decodeRecords } from '../../lib/ownership/journal/record.ts';
import { type Daemon, Hosts, type Side, until } from './hosts.ts';
import { type CuttableNetwork, twoNamespaces } from './namespaces.ts';
import type { Course, Ordeal, Strike } from './ordeals.ts';
import { Watcher } from './watcher.ts';

/** Short limits, so that silence and loss are noticed soon. */
const LIMITS = ['--peer-timeout', '1s'];
const SEND_LIMITS = [...LIMITS, '--connect-timeout', '1s', '--reconnect-timeout', '5s'];
const RECV_LIMITS = [...LIMITS, '--reconnect-timeout', '5s'];
/** Longer than the peer limit and the longest suspension limit. */
const STOP_MS = 3000;
/** Only a broken product takes longer to settle. */
const SETTLE_BOUND_MS = 60_000;

export interface Outcome {
  readonly outcome: 'moved' | 'stayed';
  /** From the last restart, continuation or repair to nothing being open. */
  readonly settleMs: number;
  readonly kills: number;
  readonly stops: number;
  readonly cuts: number;
  /** How often both copies were asked whether they run. */
  readonly looks: number;
}

/** One migration of a fresh guest between two fresh hosts, and what befalls them. */
export class Trial {
  readonly hosts: Hosts;
  readonly watcher: Watcher<Side>;
  readonly network: CuttableNetwork | undefined;
  #id = '';
  #repairedMs = 0;
  readonly #counts = { kills: 0, stops: 0, cuts: 0 };
  readonly #daemons: Daemon[] = [];

  private constructor(hosts: Hosts, network: CuttableNetwork | undefined) {
    this.hosts = hosts;
    this.network = network;
    this.watcher = new Watcher({
      source: hosts.source.socketOf('vm1'),
      destination: hosts.destination.socketOf('vm1'),
    });
  }

  /** Both agents serve; the faults are those of the first processes. */
  static async prepare(
    faults: { readonly [S in Side]?: string | undefined } = {},
    network = false,
  ): Promise<Trial> {
    const cuttable = network ? twoNamespaces() : undefined;
    try {
      const hosts = await Hosts.start({
        send: SEND_LIMITS,
        recv: RECV_LIMITS,
        network: cuttable,
        faults: { send: faults.source, recv: faults.destination },
      });
      const trial = new Trial(hosts, cuttable);
      trial.#daemons.push(hosts.send, hosts.recv);
      return trial;
    } catch (error) {
      cuttable?.close();
      throw error;
    }
  }

  /** The migration that `begin` started. */
  get id(): string {
    return this.#id;
  }

  agent(side: Side): Daemon {
    return side === 'source' ? this.hosts.send : this.hosts.recv;
  }

  client(side: Side): AgentClient {
    const agent = side === 'source' ? 'agent-send' : 'agent-recv';
    return new AgentClient(this.hosts.socketOf(side), agent);
  }

  async boot({ guest }: Course): Promise<void> {
    await this.hosts.boot({ ...guest, log: path.join(this.hosts.dir, 'vm1.log') });
  }

  /** Boots the guest of that course and begins to move it. */
  async begin(course: Course): Promise<void> {
    const { maxSuspendMs, bandwidth, cutover } = course;
    await this.boot(course);
    const view = await this.client('source').request<MigrationView>('POST', '/migrations', {
      guest: 'vm1',
      host: this.hosts.address,
      port: this.hosts.port,
      policy: 'contract',
      limits: { maxSuspendMs },
      compression: bandwidth === undefined ? 'auto' : 'off',
      verify: false,
      ...(bandwidth === undefined ? {} : { bandwidth, suspendBandwidth: bandwidth }),
    });
    this.#id = view.id;
    if (cutover)
      await this.client('source').request('POST', `/migrations/${view.id}/cutover`, {
        force: true,
      });
  }

  /** Ends the agent as a power cut of its own would. */
  async kill(side: Side): Promise<void> {
    await this.agent(side).end('SIGKILL');
    this.#counts.kills++;
  }

  /** With the state directory, port and socket that it had. */
  async restart(side: Side, fault?: string): Promise<void> {
    if (side === 'source') await this.hosts.startSend(fault);
    else await this.hosts.startRecv(fault);
    this.#daemons.push(this.agent(side));
    this.#repairedMs = performance.now();
  }

  /** Waits until the agent has met its fault. */
  async struck(side: Side): Promise<'killed' | 'stopped'> {
    const agent = this.agent(side);
    await until(() => !agent.alive || agent.standsStill, `the ${side}'s agent meets its fault`);
    if (!agent.alive) assert.equal(agent.process.signalCode, 'SIGKILL', agent.log);
    this.#counts[agent.alive ? 'stops' : 'kills']++;
    return agent.alive ? 'stopped' : 'killed';
  }

  continue(side: Side): void {
    this.agent(side).process.kill('SIGCONT');
    this.#repairedMs = performance.now();
  }

  async stopFor(side: Side, ms: number): Promise<void> {
    this.agent(side).process.kill('SIGSTOP');
    this.#counts.stops++;
    await sleep(ms);
    this.continue(side);
  }

  async cutFor(ms: number): Promise<void> {
    this.network!.cut();
    this.#counts.cuts++;
    await sleep(ms);
    this.network!.join();
    this.#repairedMs = performance.now();
  }

  /** Waits until neither side has anything open, in memory or in its journal. */
  async settled(): Promise<void> {
    await until(
      async () => {
        if (this.#openInJournals().length > 0) return false;
        const lists = await Promise.all([this.list('source'), this.list('destination')]);
        return lists.flat().every(({ phase }) => phase === 'ended');
      },
      'both agents have nothing open',
      SETTLE_BOUND_MS,
    );
  }

  async list(side: Side): Promise<readonly MigrationView[]> {
    const answer = await this.client(side).request<{ migrations: MigrationView[] }>(
      'GET',
      '/migrations',
    );
    return answer.migrations;
  }

  /** Asks the guests themselves: exactly one runs, as it should, and nothing is left of the other. */
  async judge(): Promise<Outcome> {
    const settleMs = performance.now() - this.#repairedMs;
    const runsThere = await runs(this.hosts, 'destination');
    const [there, other] = runsThere
      ? (['destination', 'source'] as const)
      : (['source', 'destination'] as const);
    await this.hosts.mustRunAt(there);
    await this.hosts.mustBeGoneFrom(other);
    this.hosts.mustLive();
    assert.equal(this.watcher.violation, undefined);
    assert(this.watcher.looks > 0, 'the guests were watched');
    const { looks } = this.watcher;
    return { outcome: runsThere ? 'moved' : 'stayed', settleMs, looks, ...this.#counts };
  }

  /** Ends everything; fails when something is left over. */
  async end(): Promise<void> {
    await this.watcher.stop();
    try {
      await this.hosts.end();
    } finally {
      this.network?.close();
    }
  }

  /** Ends everything by force, after a failure. */
  async destroy(): Promise<void> {
    await this.watcher.stop();
    await Promise.all([this.hosts.send.end('SIGKILL'), this.hosts.recv.end('SIGKILL')]);
    await this.hosts.end().catch((error) => process.stderr.write(`${error.message}\n`));
    this.network?.close();
  }

  /** All that is known, for whoever looks for the reason of a failure. */
  story(): string {
    const logs = this.#daemons.map(
      (daemon) =>
        `--- ${daemon.process.spawnargs.find((a) => /main\.ts/.test(a))} pid ${daemon.process.pid}\n${daemon.log}`,
    );
    const open = JSON.stringify(this.#openInJournals());
    const guests = ['source', 'destination']
      .map((side) => `guest at its ${side}: ${this.watcher.status(side as Side) ?? 'gone'}`)
      .join(', ');
    return `${guests}\nopen in the journals: ${open}\n${logs.join('')}`;
  }

  #openInJournals() {
    return (['source', 'destination'] as const).flatMap((side) => {
      const file = path.join(this.hosts.stateDirOf(side), 'journal');
      const { records } = decodeRecords(fs.readFileSync(file));
      return [...openEntries(records).values()].map(({ state, epoch }) => ({ side, state, epoch }));
    });
  }
}

/** Runs an ordeal from its beginning to its judgement. */
export async function endure(trial: Trial, ordeal: Ordeal): Promise<Outcome> {
  const { course, faults = {}, strike } = ordeal;
  await trial.begin(course);
  await Promise.all([
    course.meanwhile && duringStop(trial, course.meanwhile),
    ...(['source', 'destination'] as const).map((side) => suffer(trial, side, faults[side] ?? [])),
    strike && beStruck(trial, strike),
  ]);
  await trial.settled();
  return trial.judge();
}

/** What the first processes of an ordeal are started with. */
export function firstFaults({ course, faults = {} }: Ordeal): { [S in Side]?: string } {
  const first: { [S in Side]?: string } = {};
  const { meanwhile } = course;
  if (meanwhile) first[meanwhile.side] = meanwhile.fault;
  for (const side of ['source', 'destination'] as const) {
    const [fault] = faults[side] ?? [];
    if (fault !== undefined) first[side] = fault;
  }
  return first;
}

/** The agent meets one fault after the other and is brought back each time. */
async function suffer(trial: Trial, side: Side, faults: readonly string[]): Promise<void> {
  for (const i of faults.keys()) {
    if ((await trial.struck(side)) === 'killed') await trial.restart(side, faults[i + 1]);
    else {
      await sleep(STOP_MS);
      trial.continue(side);
    }
  }
}

async function duringStop(
  trial: Trial,
  { side, act }: NonNullable<Ordeal['course']['meanwhile']>,
): Promise<void> {
  await trial.struck(side);
  if (act === 'kill the destination guest') {
    await killGuest(trial.hosts, 'destination');
  } else {
    // The agent that is told may be killed while it does it.
    await trial
      .client('destination')
      .request('POST', `/migrations/${trial.id}/cancel`)
      .catch(() => {});
  }
  trial.continue(side);
}

async function beStruck(trial: Trial, strike: Strike): Promise<void> {
  const { at, how, from, afterMs, forMs } = strike;
  if (from === 'suspension')
    await until(() => trial.watcher.status('source') !== 'running', 'the guest is suspended');
  await sleep(afterMs);
  if (at === 'network') return trial.cutFor(forMs);
  const sides = at === 'both' ? (['source', 'destination'] as const) : [at];
  await Promise.all(
    sides.map(async (side) => {
      if (how === 'stop') return trial.stopFor(side, forMs);
      await trial.kill(side);
      await sleep(forMs);
      await trial.restart(side);
    }),
  );
}

async function runs(hosts: Hosts, side: Side): Promise<boolean> {
  const socket = path.join(hosts.guestDirOf(side), 'vm1.sock');
  const guest = await ControlClient.connect(socket, 'vm1').catch(() => undefined);
  try {
    const answer = await guest?.execute<{ status: string }>('query-status');
    return answer?.status === 'running';
  } finally {
    guest?.close();
  }
}

/** As a crash of the hypervisor. */
async function killGuest(hosts: Hosts, side: Side): Promise<void> {
  const socket = path.join(hosts.guestDirOf(side), 'vm1.sock');
  const guest = await ControlClient.connect(socket, 'vm1');
  const { pid } = await guest.execute<{ pid: number }>('query-guest');
  const gone = new Promise<void>((resolve) => guest.onClose(() => resolve()));
  process.kill(pid, 'SIGKILL');
  await gone;
}
