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

/** A daemon process and what it has logged. */
export class Daemon {
  readonly process: ChildProcess;
  log = '';

  constructor(agent: 'agent-send' | 'agent-recv', args: readonly string[]) {
    this.process = spawn(process.execPath, [path.join(root, agent, 'main.ts'), 'serve', ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    createInterface({ input: this.process.stderr! }).on('line', (line) => {
      this.log += `${line}\n`;
    });
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** The port in the log line that says it is ready, 0 when there is none in it. */
  async ready(): Promise<number> {
    await until(() => this.log.includes('ready') || !this.alive, 'the daemon is ready');
    assert(this.alive, this.log);
    return Number(/port (\d+)/.exec(this.log)?.[1] ?? 0);
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.alive) {
      const exit = once(this.process, 'exit');
      this.process.kill(signal);
      await exit;
    }
    return this.process.exitCode;
  }
}

export interface HostsOptions {
  readonly recv?: readonly string[];
  readonly send?: readonly string[];
  readonly ramDir?: string;
}

/** Two hosts on one: both daemons, a directory for each, and whatever guests a test boots. */
export class Hosts {
  readonly dir: string;
  readonly sourceDir: string;
  readonly destinationDir: string;
  /** RAM files of received guests. */
  readonly ramDir: string;
  readonly #sourceRam: string;
  recv!: Daemon;
  send!: Daemon;
  port = 0;

  private constructor(ramDir: string | undefined) {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-e2e-'));
    this.sourceDir = path.join(this.dir, 'source');
    this.destinationDir = path.join(this.dir, 'destination');
    this.#sourceRam = fs.mkdtempSync('/dev/shm/godwit-e2e-source-');
    this.ramDir = ramDir ?? fs.mkdtempSync('/dev/shm/godwit-e2e-destination-');
    for (const dir of [this.sourceDir, this.destinationDir]) fs.mkdirSync(dir, { mode: 0o700 });
  }

  static async start(options: HostsOptions = {}): Promise<Hosts> {
    const hosts = new Hosts(options.ramDir);
    await hosts.startRecv(options.recv);
    await hosts.startSend(options.send);
    return hosts;
  }

  async startRecv(args: readonly string[] = []): Promise<void> {
    this.recv = new Daemon('agent-recv', [
      ...['--listen', '127.0.0.1:0', '--socket', this.#path('recv.sock')],
      ...['--guest-dir', this.destinationDir, '--ram-dir', this.ramDir],
      ...['--state-dir', this.#path('recv'), ...args],
    ]);
    this.port = await this.recv.ready();
  }

  async startSend(args: readonly string[] = []): Promise<void> {
    this.send = new Daemon('agent-send', [
      ...['--socket', this.#path('send.sock'), '--guest-dir', this.sourceDir],
      ...['--state-dir', this.#path('send'), ...args],
    ]);
    await this.send.ready();
  }

  get target(): string {
    return `127.0.0.1:${this.port}`;
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
      [main, ...args, '--socket', this.#path(`${agent}.sock`)],
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
  async mustRunAt(side: 'source' | 'destination', name = 'vm1'): Promise<void> {
    const dir = side === 'source' ? this.sourceDir : this.destinationDir;
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
  async mustBeGoneFrom(side: 'source' | 'destination', name = 'vm1'): Promise<void> {
    const dir = side === 'source' ? this.sourceDir : this.destinationDir;
    const ram = side === 'source' ? this.#sourceRam : this.ramDir;
    await until(
      () =>
        !fs.existsSync(path.join(dir, `${name}.sock`)) &&
        !fs.readdirSync(ram).some((file) => file.includes(`-${name}-`)),
      `nothing of guest ${name} is left on its ${side}`,
    );
  }

  /** Ends a guest as a crash of its hypervisor would, seen from the agents. */
  quitGuest(side: 'source' | 'destination', name = 'vm1'): Promise<void> {
    const dir = side === 'source' ? this.sourceDir : this.destinationDir;
    return endGuest(path.join(dir, `${name}.sock`));
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

  #path(name: string): string {
    return path.join(this.dir, name);
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
