import assert from 'node:assert/strict';
import type { MigrationView } from '../../../lib/migration/view.ts';
import { Heartbeat } from './heartbeat.ts';
import { type Running, until, type XenHost } from './host.ts';

export type Role = 'send' | 'recv';
export type Victim =
  | 'xl'
  | 'save helper'
  | 'agent-send-helper'
  | 'agent-send xl'
  | 'migrate-receive'
  | 'agent-send'
  | 'agent-recv';

/** How a process is found by its command line, see dom0/pids. */
const COMMANDS: Readonly<Record<Victim, string>> = {
  xl: '^xl migrate ',
  'save helper': '^[^ ]*libxl-save-helper --save-domain',
  'agent-send-helper': 'agent-send/helper.ts --save-domain',
  'agent-send xl': 'agent-send/main.ts xl ',
  'migrate-receive': '^[^ ]*xl migrate-receive',
  'agent-send': 'agent-send/main.ts serve',
  'agent-recv': 'agent-recv/main.ts serve',
};

const DESTROY_ALL = "xl list | awk 'NR > 2 { print $2 }' | xargs -r -n1 xl destroy";
/** Limits that nothing is to miss. */
export const WIDE = '--max-suspend-time 120s --timeout 20m';

/** Two hosts with agents, and g1, which is on one of them. */
export class Bed {
  readonly hosts: readonly [XenHost, XenHost];
  heartbeat: Heartbeat;
  /** Where the guest is, or is to be. */
  source: XenHost;
  #busy = 0;

  constructor(hosts: readonly [XenHost, XenHost]) {
    this.hosts = hosts;
    this.source = hosts[0];
    this.heartbeat = new Heartbeat(hosts);
  }

  get destination(): XenHost {
    return this.source === this.hosts[0] ? this.hosts[1] : this.hosts[0];
  }

  async startAgents(): Promise<void> {
    const startBoth = async (host: XenHost) => {
      for (const role of ['send', 'recv'] as const) await this.startAgent(host, role);
    };
    await Promise.all(this.hosts.map(startBoth));
  }

  /** Ends whatever a scenario has left: agents with all that they know, xl, and every domain. */
  async renew(): Promise<void> {
    for (const host of this.hosts) {
      await host.run('ifconfig eth1 up');
      for (const victim of Object.keys(COMMANDS)) await this.kill(host, victim as Victim);
      await host.run(`${DESTROY_ALL}; rm -rf /var/lib/godwit /run/godwit /dev/shm/* /tmp/capture`);
    }
    this.#busy = -1;
    await this.startAgents();
  }

  /** Starts that agent of a host anew. @param fault as GODWIT_FAULT */
  async startAgent(host: XenHost, role: Role, fault?: string): Promise<void> {
    // An emulated processor that shares a real one is silent for long, and takes longer over TLS than its peer waits.
    const receives =
      '--listen 0.0.0.0:7070 --data-ports 7071-7074 --xen-allow-path /root --xl /bin/xl-captured';
    const patience = '--peer-timeout 60s --reconnect-timeout 10m';
    const options = `--insecure ${patience} ${role === 'recv' ? receives : ''}`;
    const environment = fault === undefined ? '' : `NODE_ENV=test GODWIT_FAULT=${fault}`;
    const log = `/var/log/agent-${role}.log`;
    await this.kill(host, role === 'send' ? 'agent-send' : 'agent-recv', 'TERM');
    await host.must(
      `${environment} setsid agent-${role} serve ${options} >${log} 2>&1 </dev/null & echo $! >${pidOf(role)}`,
    );
    await host.until(`grep -q ready ${log}`, `agent-${role} is ready`).catch(async (error) => {
      throw new Error(`${error.message}\n${(await host.run(`cat ${log}`)).text}`);
    });
  }

  /** Resolves when agent-send holds the guest, ready to be moved. */
  async holds(): Promise<void> {
    const isHeld = async () =>
      (await viewsOf(this.source, 'send')).some(
        ({ phase, verdict }) => phase !== 'ended' && verdict?.action === 'hold',
      );
    await until(isHeld, 'the guest is held');
  }

  /** The migration that the source has begun last. */
  async newest(): Promise<string> {
    const views = await viewsOf(this.source, 'send');
    return views.toSorted((a, b) => (a.startedAt < b.startedAt ? 1 : -1))[0]!.id;
  }

  /** Signals processes of dom0, and waits for their end when that is what the signal is for. */
  async kill(host: XenHost, victim: Victim, signal = 'KILL'): Promise<void> {
    const pattern = COMMANDS[victim];
    const { text } = await host.run(`pids '${pattern}'`);
    const pids = text.trim().split(/\s+/).filter(Boolean);
    if (pids.length === 0) return;
    await host.run(`kill -${signal} ${pids.join(' ')}`);
    if (signal !== 'KILL' && signal !== 'TERM') return;
    // One whose parent stands still has ended, and stays as a zombie.
    const lives = pids.map((pid) => `grep -qs '^State:.[^Z]' /proc/${pid}/status`).join(' || ');
    await host.until(`! { ${lives}; }`, `${victim} ends`);
  }

  /** Kills one that has to be there. */
  async strike(host: XenHost, victim: Victim): Promise<void> {
    await host.until(`[ -n "$(pids '${COMMANDS[victim]}')" ]`, `${victim} runs`);
    await this.kill(host, victim);
  }

  /** Resolves when an agent has died, which a fault has it do. */
  async dies(host: XenHost, role: Role): Promise<void> {
    await host.until(`! kill -0 $(cat ${pidOf(role)})`, `agent-${role} dies`);
  }

  /** Resolves when an agent has stopped itself by a fault. */
  async standsStill(host: XenHost, role: Role): Promise<void> {
    const state = `grep -q '^State:.T' /proc/$(cat ${pidOf(role)})/status`;
    await host.until(state, `agent-${role} stands still`);
  }

  /** A guest that beats, as busy as that, where it is already or else on the source. */
  async boot(busy = 0): Promise<void> {
    for (const host of this.hosts) {
      if (busy !== this.#busy || !(await this.#runs(host))) continue;
      this.source = host;
      this.heartbeat.clear();
      await this.heartbeat.beatsOn(host);
      return this.heartbeat.clear();
    }
    for (const host of this.hosts) await host.run(DESTROY_ALL);
    this.#busy = busy;
    const extra = `extra="console=hvc0 quiet mitigations=off init_on_free=1 busy=${busy}"`;
    await this.source.must(`xl create /root/g1.cfg '${extra}'`);
    this.heartbeat.clear();
    await this.heartbeat.beatsOn(this.source);
    this.heartbeat.clear();
  }

  /** Begins `xl migrate` to the other host. */
  begin(options: string, { transport = 'agent-send xl', command = 'xl migrate' } = {}): Move {
    const rune = `${transport} ${options}`.trim();
    return this.beginAs(`${command} -s '${rune}' g1 ${this.destination.name}`);
  }

  /** Begins a command of the source that moves the guest to the other host. */
  beginAs(command: string): Move {
    return new Move(this.source.begin(`${command} 2>&1`));
  }

  /** A move that has to succeed: the guest beats on at the other host, and nowhere else. */
  async mustMove(options = WIDE): Promise<Move> {
    const move = this.begin(options);
    const code = await move.ended();
    assert.equal(code, 0, `${move.said}\n${await this.logs()}`);
    await this.mustRunAt(this.destination);
    return move;
  }

  /** It beats there, every beat in its turn; the other host has no domain, and the agents no open migration. */
  async mustRunAt(host: XenHost): Promise<void> {
    const settled = async () => {
      const [here, there] = await Promise.all(
        [host, host === this.hosts[0] ? this.hosts[1] : this.hosts[0]].map(domainsOf),
      );
      return there!.length === 0 && here!.length === 1 && /^g1 .* [r-][b-]---- /.test(here![0]!);
    };
    try {
      await until(settled, `the guest is on ${host.name} alone`);
      await this.heartbeat.beatsOn(host);
      await until(() => this.#nothingOpen(), 'no migration is open');
    } catch (error) {
      const lists = await Promise.all(
        this.hosts.map((one) => one.run('xl list; agent-send list; agent-recv list')),
      );
      const text = lists.map(({ text }) => text).join('\n');
      throw new Error(`${(error as Error).message}\n${text}\n${await this.logs()}`);
    }
    this.heartbeat.mustBeWhole();
    this.source = host;
  }

  /** No host has it any more, and the agents no open migration. */
  async mustBeNowhere(): Promise<void> {
    const gone = async () =>
      (await Promise.all(this.hosts.map(domainsOf))).every((lines) => lines.length === 0);
    await until(gone, 'the guest is nowhere');
    await until(() => this.#nothingOpen(), 'no migration is open');
  }

  /** Wherever it has ended. */
  async mustRunSomewhere(): Promise<XenHost> {
    let host: XenHost | undefined;
    const runs = async () => {
      for (const one of this.hosts) if (await this.#runs(one)) host = one;
      return host !== undefined;
    };
    await until(runs, 'the guest runs');
    await this.mustRunAt(host!);
    return host!;
  }

  async #runs(host: XenHost): Promise<boolean> {
    return (await domainsOf(host)).some((line) => /^g1 .* [r-][b-]---- /.test(line));
  }

  async #nothingOpen(): Promise<boolean> {
    for (const host of this.hosts)
      for (const role of ['send', 'recv'] as const)
        if ((await viewsOf(host, role)).some(({ phase }) => phase !== 'ended')) return false;
    return true;
  }

  async logs(): Promise<string> {
    const each = this.hosts.map(async (host) => {
      const { text } = await host.run('tail -n 25 /var/log/agent-send.log /var/log/agent-recv.log');
      return `-- ${host.name}\n${text}`;
    });
    return (await Promise.all(each)).join('\n');
  }

  end(): void {
    this.heartbeat.end();
  }
}

/** Where the number of its process is: to look for that takes an emulated host a second. */
function pidOf(role: Role): string {
  return `/run/agent-${role}.pid`;
}

/** Of an agent that answers: one that starts has nothing to say yet. */
async function viewsOf(host: XenHost, role: Role): Promise<MigrationView[]> {
  const { text } = await host.run(`ask ${role} /migrations`);
  assert.match(text, /^\{/, `agent-${role} of ${host.name} does not answer: ${text}`);
  return (JSON.parse(text) as { migrations: MigrationView[] }).migrations;
}

/** Lines of `xl list` but dom0's. */
async function domainsOf(host: XenHost): Promise<string[]> {
  const { text } = await host.run(`xl list | awk 'NR > 2'`);
  return text.split('\n').filter(Boolean);
}

/** An `xl migrate` that runs. */
export class Move {
  readonly #running: Running;
  readonly #beganMs = performance.now();
  tookMs = 0;

  constructor(running: Running) {
    this.#running = running;
    void running.ended.then(() => {
      this.tookMs = performance.now() - this.#beganMs;
    });
  }

  get said(): string {
    return this.#running.said;
  }

  /** Resolves when it has said that. */
  async says(words: RegExp): Promise<void> {
    const isOver = () => words.test(this.said) || this.tookMs > 0;
    await until(isOver, `xl says ${words}`, { lookMs: 50 });
    assert.match(this.said, words);
  }

  /** Its exit code. */
  async ended(): Promise<number> {
    return (await this.#running.ended).code;
  }
}
