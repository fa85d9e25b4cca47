import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { MigrationView } from '../../lib/control/view.ts';
import { type BootOptions, bootSimulatedGuest } from '../../lib/guest/simulated/boot.ts';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a daemon is started, besides its options. */
export interface Circumstances {
  /** The command that goes before it: what puts it into a network namespace. */
  readonly prefix?: readonly string[];
  /** What befalls it, as GODWIT_FAULT in lib/handover/fault.ts. */
  readonly fault?: string | undefined;
}

/** A daemon process and what it has logged. */
export class Daemon {
  readonly process: ChildProcess;
  readonly #fault: string | undefined;
  log = '';

  constructor(
    agent: 'agent-send' | 'agent-recv',
    args: readonly string[],
    { prefix = [], fault }: Circumstances = {},
  ) {
    this.#fault = fault;
    const main = path.join(root, agent, 'main.ts');
    const [command, ...rest] = [...prefix, process.execPath, main, 'serve', ...args];
    this.process = spawn(command!, rest, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: fault ? { ...process.env, NODE_ENV: 'test', GODWIT_FAULT: fault } : process.env,
    });
    createInterface({ input: this.process.stderr! }).on('line', (line) => {
      this.log += `${line}\n`;
    });
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** True while it is stopped by a signal. */
  get standsStill(): boolean {
    try {
      return /^\d+ \(.*\) T/.test(fs.readFileSync(`/proc/${this.process.pid}/stat`, 'latin1'));
    } catch {
      return false; // gone in this moment
    }
  }

  /** The port in the log line that says it is ready; undefined when there is none. */
  get port(): number | undefined {
    const port = /port (\d+)/.exec(this.log)?.[1];
    return port === undefined ? undefined : Number(port);
  }

  /** One that a fault may befall may be gone before. */
  async ready(): Promise<void> {
    await until(() => this.log.includes('ready') || !this.alive, 'the daemon is ready');
    assert(this.alive || this.#fault !== undefined, this.log);
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.alive) {
      this.process.kill(signal);
      await until(() => !this.alive, `the daemon ends on ${signal}\n${this.log}`);
    }
    return this.process.exitCode;
  }
}

/** Where the agents of the two hosts are, when they do not share one network. */
export interface Network {
  /** Of the destination, as the source reaches it. */
  readonly address: string;
  /** The commands that put an agent there. */
  readonly source: readonly string[];
  readonly destination: readonly string[];
}

export interface HostsOptions {
  readonly recv?: readonly string[];
  readonly send?: readonly string[];
  readonly ramDir?: string;
  readonly network?: Network | undefined;
  /** What befalls the agents that are started first. */
  readonly faults?: { readonly recv?: string | undefined; readonly send?: string | undefined };
}

export type Side = 'source' | 'destination';

/** Two hosts on one: both daemons, a directory for each, and whatever guests a test boots. */
export class Hosts {
  readonly dir: string;
  readonly sourceDir: string;
  readonly destinationDir: string;
  /** RAM files of received guests. */
  readonly ramDir: string;
  readonly #sourceRam: string;
  readonly #options: HostsOptions;
  recv!: Daemon;
  send!: Daemon;
  port = 0;

  private constructor(options: HostsOptions) {
    this.#options = options;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-e2e-'));
    this.sourceDir = path.join(this.dir, 'source');
    this.destinationDir = path.join(this.dir, 'destination');
    this.#sourceRam = fs.mkdtempSync('/dev/shm/godwit-e2e-source-');
    this.ramDir = options.ramDir ?? fs.mkdtempSync('/dev/shm/godwit-e2e-destination-');
    for (const dir of [this.sourceDir, this.destinationDir]) fs.mkdirSync(dir, { mode: 0o700 });
  }

  static async start(options: HostsOptions = {}): Promise<Hosts> {
    const hosts = new Hosts(options);
    const { recv, send } = options.faults ?? {};
    await Promise.all([hosts.startRecv(recv), hosts.startSend(send)]);
    return hosts;
  }

  /** Again on the port that it had, if it was started before. */
  async startRecv(fault?: string): Promise<void> {
    const { network, recv = [] } = this.#options;
    this.recv = new Daemon(
      'agent-recv',
      [
        ...['--listen', `${this.address}:${this.port}`, '--socket', this.socketOf('destination')],
        ...['--guest-dir', this.destinationDir, '--ram-dir', this.ramDir],
        ...['--state-dir', this.stateDirOf('destination'), ...recv],
        ...(network ? ['--insecure'] : []),
      ],
      { prefix: network?.destination ?? [], fault },
    );
    await this.recv.ready();
    this.port = this.recv.port ?? this.port;
  }

  async startSend(fault?: string): Promise<void> {
    const { network, send = [] } = this.#options;
    this.send = new Daemon(
      'agent-send',
      [
        ...['--socket', this.socketOf('source'), '--guest-dir', this.sourceDir],
        ...['--state-dir', this.stateDirOf('source'), ...send],
        ...(network ? ['--insecure'] : []),
      ],
      { prefix: network?.source ?? [], fault },
    );
    await this.send.ready();
  }

  /** The destination's, as the source reaches it. */
  get address(): string {
    return this.#options.network?.address ?? '127.0.0.1';
  }

  /** The agent's control socket on that side. */
  socketOf(side: Side): string {
    return path.join(this.dir, side === 'source' ? 'send.sock' : 'recv.sock');
  }

  stateDirOf(side: Side): string {
    return path.join(this.dir, side === 'source' ? 'send' : 'recv');
  }

  guestDirOf(side: Side): string {
    return side === 'source' ? this.sourceDir : this.destinationDir;
  }

  get target(): string {
    return `${this.address}:${this.port}`;
  }

  boot(options: Partial<BootOptions> = {}) {
    const dir = this.sourceDir;
    return bootSimulatedGuest({
      name: 'vm1',
      memory: '64MiB',
      ramDir: this.#sourceRam,
      ...options,
      dir,
    });
  }

  /** Runs a command of agent-send (or agent-recv) as a person would. */
  async run(args: readonly string[], agent: 'send' | 'recv' = 'send'): Promise<CommandResult> {
    const main = path.join(root, `agent-${agent}`, 'main.ts');
    const child = spawn(
      process.execPath,
      [main, ...args, '--socket', this.socketOf(agent === 'send' ? 'source' : 'destination')],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        cwd: this.dir,
      },
    );
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    const [code] = await once(child, 'close');
    return { code, stdout, stderr };
  }

  /** Migrates to the end; the last view and the exit code. */
  async migrate(...options: string[]): Promise<MigrationView & { exit: number }> {
    return this.migrateGuest('vm1', ...options);
  }

  async migrateGuest(
    name: string,
    ...options: string[]
  ): Promise<MigrationView & { exit: number }> {
    const result = await this.run(['migrate', name, this.target, '--json', ...options]);
    const last = result.stdout.trim().split('\n').at(-1)!;
    assert(last.startsWith('{'), `${result.stdout}${result.stderr}`);
    return { ...(JSON.parse(last) as MigrationView), exit: result.code };
  }

  /** Starts a migration and returns its id at once. */
  async begin(...options: string[]): Promise<string> {
    const result = await this.run(['migrate', 'vm1', this.target, '--detach', ...options]);
    assert.equal(result.code, 0, result.stderr);
    return result.stdout.trim();
  }

  async view(id: string): Promise<MigrationView> {
    const result = await this.run(['show', id, '--json']);
    assert.equal(result.code, 0, result.stderr);
    return JSON.parse(result.stdout) as MigrationView;
  }

  /** The migration's view once it has ended. */
  async ended(id: string): Promise<MigrationView> {
    let view = await this.view(id);
    await until(async () => {
      view = await this.view(id);
      return view.phase === 'ended';
    }, `migration ${id} has ended`);
    return view;
  }

  /** The guest runs on that side, all its memory is as it wrote it, and its heart goes on beating. */
  async mustRunAt(side: Side, name = 'vm1'): Promise<void> {
    const dir = this.guestDirOf(side);
    const guest = await ControlClient.connect(path.join(dir, `${name}.sock`), name);
    try {
      const { status } = await guest.execute<{ status: string }>('query-status');
      assert.equal(status, 'running', `guest ${name} at its ${side}`);
      const before = await guest.execute<{ ticks: number }>('query-heartbeat');
      await until(async () => {
        const { ticks } = await guest.execute<{ ticks: number }>('query-heartbeat');
        return ticks > before.ticks;
      }, 'the heart beats');
      const check = await guest.execute<{ clean: boolean; bad: number }>('self-check');
      assert(check.clean, `guest ${name} finds ${check.bad} wrong pages`);
    } finally {
      guest.close();
    }
  }

  /** Nothing of the guest on that side: no process, no socket, no memory. */
  async mustBeGoneFrom(side: Side, name = 'vm1'): Promise<void> {
    const dir = this.guestDirOf(side);
    const ram = side === 'source' ? this.#sourceRam : this.ramDir;
    await until(
      () =>
        !fs.existsSync(path.join(dir, `${name}.sock`)) &&
        !fs.readdirSync(ram).some((file) => file.includes(`-${name}-`)),
      `nothing of guest ${name} is left on its ${side}`,
    );
  }

  /** Ends a guest as a crash of its hypervisor would, seen from the agents. */
  quitGuest(side: Side, name = 'vm1'): Promise<void> {
    return endGuest(path.join(this.guestDirOf(side), `${name}.sock`));
  }

  mustLive(): void {
    assert(this.recv.alive, `agent-recv lives\n${this.recv.log}`);
    assert(this.send.alive, `agent-send lives\n${this.send.log}`);
  }

  /** Ends daemons and guests, and fails when anything of them is left over. */
  async end(): Promise<void> {
    await Promise.all([this.send?.end(), this.recv?.end()]);
    for (const dir of [this.sourceDir, this.destinationDir])
      for (const file of fs.readdirSync(dir))
        if (file.endsWith('.sock')) await endGuest(path.join(dir, file));
    const ramFiles = () => [this.#sourceRam, this.ramDir].flatMap((dir) => fs.readdirSync(dir));
    // A VMM gives up its socket first and its memory a moment later.
    await until(() => ramFiles().length === 0, 'no RAM file is left over');
    fs.rmSync(this.#sourceRam, { recursive: true });
    if (this.ramDir.startsWith('/dev/shm/')) fs.rmSync(this.ramDir, { recursive: true });
    fs.rmSync(this.dir, { recursive: true });
  }
}

async function endGuest(socket: string): Promise<void> {
  const guest = await ControlClient.connect(socket, path.basename(socket, '.sock'));
  const closed = new Promise<void>((resolve) => guest.onClose(() => resolve()));
  await guest.execute('quit').catch(() => {}); // it may be gone before it has answered
  await closed;
  await until(() => !fs.existsSync(socket), `${socket} is gone`);
}

/** Waits for a condition, with a bound that only a broken product reaches. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  boundMs = 30_000,
): Promise<void> {
  const end = performance.now() + boundMs;
  while (!(await condition())) {
    assert(performance.now() < end, `waited ${boundMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
