import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Daemon, until } from '../e2e/daemon.ts';
import type { Web1 } from './web1.ts';

const run = promisify(execFile);
const here = fileURLToPath(new URL('.', import.meta.url));
const root = path.join(here, '../..');

/** Where `.ci/pacemaker` unpacks Debian's packages. */
const TREE = '/opt/godwit-pacemaker';
const BOUND_MS = 180_000;

export const NODES = ['n1', 'n2'] as const;
export type NodeName = (typeof NODES)[number];

const ADDRESSES: Readonly<Record<NodeName, string>> = { n1: '10.99.0.1', n2: '10.99.0.2' };

/** Why a cluster cannot be had on this machine; undefined when it can. */
export function whyNoCluster(): string | undefined {
  if (process.getuid?.() !== 0) return 'nodes in namespaces of their own need root';
  const needed = [`${TREE}/usr/sbin/pacemakerd`, '/usr/sbin/ip'];
  const missing = needed.find((file) => !fs.existsSync(file));
  return missing && `${missing} is missing: \`sudo .ci/pacemaker\` installs what is needed`;
}

/** Two Pacemaker nodes with Godwit's agents, and web1, a guest, as their only resource. */
export class Cluster {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-cluster-'));
  readonly #switch: ChildProcess;
  readonly #holders = new Map<NodeName, ChildProcess>();
  readonly #power: NodeJS.Timeout;
  readonly agents = new Map<string, Daemon>();
  /** Nodes that were switched off by a fence, in order. */
  readonly fenced: NodeName[] = [];
  readonly #web1: Web1;

  private constructor(web1: Web1) {
    this.#web1 = web1;
    const at = (...names: string[]) => path.join(this.dir, ...names);
    for (const name of ['shared/power', 'layer/usr/bin', 'layer/usr/sbin', OCF_DIR])
      fs.mkdirSync(at(name), { recursive: true });
    fs.chmodSync(at('shared'), 0o777);
    fs.copyFileSync(path.join(here, 'fence_switch'), at('layer/usr/sbin/fence_switch'));
    const node = process.execPath;
    script(at('layer/usr/bin/agent-send'), `exec ${node} ${root}/agent-send/main.ts "$@"`);
    const agent = path.join(root, 'lib/package/root/usr/lib/ocf/resource.d/godwit/domain');
    fs.copyFileSync(agent, at(OCF_DIR, 'domain.real'));
    const log = 'echo "$(uname -n):$1" >>/mnt/calls';
    const words = `case $1 in monitor|meta-data) ;; *) ${log} ;; esac`;
    const ocf = '/usr/lib/ocf/resource.d/godwit/domain.real';
    script(at(OCF_DIR, 'domain'), `${words}\nexec ${ocf} "$@" 2>>/mnt/complaints`);
    fs.writeFileSync(at('shared/calls'), '');
    fs.writeFileSync(at('shared/cib.xml'), cib(web1.parameters));
    fs.writeFileSync(at('shared/corosync.conf'), COROSYNC);
    const nodes = NODES.map((name) => `${name}=${ADDRESSES[name]}`);
    const common = { 'guest-dir': '/run/godwit/guests', 'cluster-node': nodes, insecure: true };
    const limits = { 'peer-timeout': '5s', 'reconnect-timeout': '5s' };
    fs.writeFileSync(at('shared/send.json'), JSON.stringify({ ...common, ...limits }));
    const receives = { listen: '0.0.0.0:7070', ...web1.receiver };
    fs.writeFileSync(at('shared/recv.json'), JSON.stringify({ ...common, ...limits, ...receives }));
    for (const [name, text] of Object.entries(web1.shared))
      fs.writeFileSync(at('shared', name), text);
    const bridge = 'ip link add br0 type bridge && ip link set br0 up && exec sleep 86400';
    this.#switch = spawn('unshare', ['--net', '--', 'sh', '-c', bridge], { stdio: 'ignore' });
    this.#power = setInterval(() => this.#answerFences(), 50);
  }

  static async start(web1: Web1): Promise<Cluster> {
    const cluster = new Cluster(web1);
    try {
      await until(() => cluster.#onSwitch('ip', 'link', 'show', 'br0'), 'the switch is there');
      for (const name of NODES) await cluster.switchOn(name);
      await until(() => cluster.isAt('n1'), 'web1 starts at n1', BOUND_MS);
      await cluster.settled();
      return cluster;
    } catch (error) {
      process.stderr.write(cluster.story());
      await cluster.end();
      throw error;
    }
  }

  async switchOn(name: NodeName): Promise<void> {
    const dir = path.join(this.dir, name);
    for (const old of ['pid1', 'go', 'run'])
      fs.rmSync(path.join(dir, old), { recursive: true, force: true });
    const { libvirt = '' } = this.#web1;
    const [layer, shared] = ['layer', 'shared'].map((part) => path.join(this.dir, part));
    const args = [dir, name, TREE, layer!, shared!, libvirt];
    const holder = spawn(path.join(here, 'node.sh'), args, { stdio: 'ignore' });
    this.#holders.set(name, holder);
    await until(() => this.#pid1(name) !== undefined, `${name} has a process 1`);
    const pid = `${this.#pid1(name)}`;
    const own = () =>
      fs.readlinkSync(`/proc/${pid}/ns/net`) !== fs.readlinkSync('/proc/self/ns/net');
    await until(own, `${name} has a network namespace`);
    const port = `sw-${name}`;
    await this.#onSwitch('ip', 'link', 'del', port);
    const veth = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', pid];
    await this.#onSwitch('ip', 'link', 'add', port, ...veth);
    await this.#onSwitch('ip', 'link', 'set', port, 'master', 'br0', 'up');
    await this.on(name, 'ip', 'addr', 'add', `${ADDRESSES[name]}/24`, 'dev', 'eth0');
    await this.on(name, 'ip', 'link', 'set', 'eth0', 'up');
    await this.#web1.nodeIsUp(dir);
    await this.startAgent(name, 'send');
    await this.startAgent(name, 'recv');
    fs.writeFileSync(path.join(dir, 'go'), '');
    const online = async () =>
      (await this.try(name, 'crm_mon', '-1')).includes('Online: [ n1 n2 ]');
    if (NODES.every((one) => this.#pid1(one) !== undefined))
      await until(online, `${name} is in the cluster`, BOUND_MS);
  }

  async startAgent(name: NodeName, role: 'send' | 'recv', fault?: string): Promise<void> {
    const key = `${name} ${role}`;
    await this.endAgent(name, role);
    const prefix = ['nsenter', '-t', `${this.#pid1(name)}`, '-m', '-u', '-i', '-n', '-p', '--'];
    const places = [
      '--config',
      `/mnt/${role}.json`,
      '--state-dir',
      `/var/lib/godwit/agent-${role}`,
    ];
    const all = [...places, '--host-dir', '/var/lib/godwit/host'];
    const daemon = new Daemon(`agent-${role}`, all, { prefix, fault });
    this.agents.set(key, daemon);
    await daemon.ready();
  }

  /** As when it crashes. What put it into its namespaces is another process, and ends with it. */
  async endAgent(name: NodeName, role: 'send' | 'recv'): Promise<void> {
    const daemon = this.agents.get(`${name} ${role}`);
    if (daemon === undefined || !daemon.alive) return;
    const { pid } = daemon.process;
    const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1');
    for (const child of children.match(/\d+/g) ?? []) process.kill(Number(child), 'SIGKILL');
    await daemon.end('SIGKILL'); // it stands still as its agent does
  }

  /** As when somebody pulls its plug. */
  switchOff(name: NodeName): void {
    const pid = this.#pid1(name);
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    fs.rmSync(path.join(this.dir, name, 'pid1'), { force: true });
  }

  /** Runs a command on a node. @returns what it prints */
  async on(name: NodeName, ...command: readonly string[]): Promise<string> {
    const into = ['-t', `${this.#pid1(name)}`, '-m', '-u', '-i', '-n', '-p', '--'];
    return (await run('nsenter', [...into, ...command])).stdout;
  }

  try(name: NodeName, ...command: readonly string[]): Promise<string> {
    return this.on(name, ...command).catch(() => '');
  }

  /** Pacemaker has nothing left to do. */
  async settled(from: NodeName = 'n1'): Promise<void> {
    await this.on(from, 'crm_resource', '--wait');
  }

  /** What Pacemaker has called but monitors, since the last look. */
  calls(): readonly string[] {
    const file = path.join(this.dir, 'shared/calls');
    const all = fs.readFileSync(file, 'utf8').trim();
    return all === '' ? [] : all.split('\n').slice(this.#read);
  }

  #read = 0;

  forgetCalls(): void {
    this.#read += this.calls().length;
  }

  /** Where Pacemaker says that web1 is. */
  async shownAt(node: NodeName, from = node): Promise<boolean> {
    const shown = await this.try(from, 'crm_mon', '-1');
    return new RegExp(`web1\\s.*Started ${node}\\s*(?:$|[^,\\w])`, 'm').test(shown);
  }

  /** The guest runs there: what its hypervisor says. */
  isAt(node: NodeName): Promise<boolean> {
    return this.#web1.runsAt(path.join(this.dir, node)).catch(() => false); // the node has just ended
  }

  /** How often the guest's heart has beaten since it was started, wherever it was meanwhile. */
  beats(node: NodeName): Promise<number> {
    return this.#web1.beats(path.join(this.dir, node));
  }

  /** The guest, which had that many beats at the other node, lives on at this one, and Pacemaker knows it. */
  async livesAt(node: NodeName, beats: number): Promise<void> {
    await until(() => this.isAt(node), `web1 runs at ${node}`, BOUND_MS);
    await until(() => this.shownAt(node), 'Pacemaker says so', BOUND_MS);
    const more = async () => (await this.beats(node)) > beats;
    await until(more, `its heart goes on beating at ${node}`);
  }

  /** A meta attribute of web1, as the cluster has it at that node; '' when it has none. */
  async meta(node: NodeName, name: string): Promise<string> {
    return (await this.try(node, 'crm_resource', '-r', 'web1', '--meta', '-g', name)).trim();
  }

  /** For a test that failed. */
  story(): string {
    const logs = [...this.agents].map(([key, { log }]) => `--- ${key}\n${log}`);
    const read = (name: string) => {
      const file = path.join(this.dir, name);
      return fs.existsSync(file) ? `--- ${name}\n${fs.readFileSync(file, 'utf8')}` : '';
    };
    return [...logs, read('shared/calls'), read('shared/complaints')].join('\n');
  }

  async end(): Promise<void> {
    clearInterval(this.#power);
    for (const name of NODES) this.switchOff(name);
    for (const daemon of this.agents.values()) await daemon.end('SIGKILL');
    for (const holder of this.#holders.values()) holder.kill();
    this.#switch.kill('SIGKILL');
    await this.#web1.end();
    const gone = [...this.#holders.values(), this.#switch];
    await until(
      () => gone.every(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null),
      'the nodes are gone',
    );
    fs.rmSync(this.dir, { recursive: true });
  }

  #pid1(name: NodeName): number | undefined {
    try {
      return Number(fs.readFileSync(path.join(this.dir, name, 'pid1'), 'latin1'));
    } catch {
      return undefined;
    }
  }

  #onSwitch(...command: readonly string[]): boolean {
    try {
      const into = ['-t', `${this.#switch.pid}`, '-n', '--'];
      execFileSync('nsenter', [...into, ...command], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }

  /** The power switch: a node is off before the fence is confirmed. */
  #answerFences(): void {
    const dir = path.join(this.dir, 'shared/power');
    for (const file of fs.readdirSync(dir).filter((name) => name.startsWith('ask.'))) {
      const node = fs.readFileSync(path.join(dir, file), 'latin1').trim() as NodeName;
      this.switchOff(node);
      this.fenced.push(node);
      fs.rmSync(path.join(dir, file));
      fs.writeFileSync(path.join(dir, file.replace('ask.', 'done.')), '');
    }
  }
}

const OCF_DIR = 'layer/usr/lib/ocf/resource.d/godwit';

function script(file: string, text: string): void {
  fs.writeFileSync(file, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

const nvpair = (name: string, value: string, id: string) =>
  `<nvpair id="${id}-${name}" name="${name}" value="${value}"/>`;

const PARAMETERS = {
  max_suspend_time: '20s',
  hosts: NODES.map((name) => `${name}=${ADDRESSES[name]}`).join(' '),
  send_config: '/mnt/send.json',
  recv_config: '/mnt/recv.json',
};

const cib = (
  parameters: Readonly<Record<string, string>>,
) => `<cib crm_feature_set="3.13.0" validate-with="pacemaker-3.7" epoch="1" num_updates="0" admin_epoch="0">
<configuration>
<crm_config><cluster_property_set id="o">
${nvpair('dc-deadtime', '2s', 'o')}${nvpair('stonith-enabled', 'true', 'o')}${nvpair('stonith-action', 'off', 'o')}
</cluster_property_set></crm_config>
<nodes/>
<resources>
${NODES.map(
  (
    name,
  ) => `<primitive id="fence-${name}" class="stonith" type="fence_switch"><instance_attributes id="fence-${name}-i">
${nvpair('pcmk_host_list', name, name)}${nvpair('plug', name, name)}</instance_attributes></primitive>`,
).join('\n')}
<primitive id="web1" class="ocf" provider="godwit" type="domain">
<meta_attributes id="web1-m">${nvpair('allow-migrate', 'true', 'web1')}</meta_attributes>
<instance_attributes id="web1-i">
${Object.entries({ ...PARAMETERS, ...parameters })
  .map(([name, value]) => nvpair(name, value, 'web1'))
  .join('\n')}
</instance_attributes>
<operations>
<op id="web1-mon" name="monitor" interval="10s" timeout="60s"/>
<op id="web1-start" name="start" interval="0" timeout="90s"/>
<op id="web1-stop" name="stop" interval="0" timeout="90s"/>
<op id="web1-mt" name="migrate_to" interval="0" timeout="180s" on-fail="block"/>
<op id="web1-mf" name="migrate_from" interval="0" timeout="60s"/>
</operations></primitive>
</resources>
<constraints>
<rsc_location id="web1-n1" rsc="web1" node="n1" score="10"/>
${NODES.map((name) => `<rsc_location id="fence-${name}-not" rsc="fence-${name}" node="${name}" score="-INFINITY"/>`).join('\n')}
</constraints>
<rsc_defaults><meta_attributes id="rd">${nvpair('resource-stickiness', '100', 'rd')}</meta_attributes></rsc_defaults>
</configuration>
<status/>
</cib>
`;

const COROSYNC = `totem {
  version: 2
  cluster_name: godwit
  transport: udpu
  token: 10000
  consensus: 12000
}
nodelist {
${NODES.map(
  (name, at) => `  node {
    ring0_addr: ${ADDRESSES[name]}
    name: ${name}
    nodeid: ${at + 1}
  }`,
).join('\n')}
}
quorum {
  provider: corosync_votequorum
  two_node: 1
  wait_for_all: 1
}
system {
  sched_rr: no
  move_to_root_cgroup: no
}
logging {
  to_stderr: no
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
  to_syslog: no
}
`;
