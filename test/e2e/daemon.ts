import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { standsStill } from '../halt.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export type Agent = 'agent-send' | 'agent-recv';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a daemon is started, besides its options. */
export interface Circumstances {
  /** The command that goes before it: what puts it into a network namespace. */
  readonly prefix?: readonly string[];
  /** What befalls it, as GODWIT_FAULT in lib/ownership/fault.ts. */
  readonly fault?: string | undefined;
  /** Besides what this process has. */
  readonly env?: NodeJS.ProcessEnv;
}

/** A daemon process and what it has logged. */
export class Daemon {
  readonly process: ChildProcess;
  readonly #fault: string | undefined;
  log = '';

  constructor(
    agent: Agent,
    args: readonly string[],
    { prefix = [], fault, env = {} }: Circumstances = {},
  ) {
    this.#fault = fault;
    const main = path.join(root, agent, 'main.ts');
    const all = [main, 'serve', ...args, ...ownHostDir(args)];
    const [command, ...rest] = [...prefix, process.execPath, ...all];
    const faults = fault ? { NODE_ENV: 'test', GODWIT_FAULT: fault } : {};
    this.process = spawn(command!, rest, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...faults, ...env },
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
    return standsStill(this.process.pid!);
  }

  /** The port in the log line that says it is ready; undefined when there is none. */
  get port(): number | undefined {
    const port = /port (\d+)/.exec(this.log)?.[1];
    return port === undefined ? undefined : Number(port);
  }

  /** One that a fault may befall may be gone before. */
  async ready(): Promise<void> {
    const ready = () => this.log.includes('ready') || !this.alive;
    await until(ready, 'the daemon is ready', START_BOUND_MS);
    assert(this.alive || this.#fault !== undefined, this.log);
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.alive) {
      this.process.kill(signal);
      const ended = until(() => !this.alive, `the daemon ends on ${signal}\n${this.log}`);
      await ended.finally(() => this.process.kill('SIGKILL'));
    }
    return this.process.exitCode;
  }
}

/** Six daemons start at once on a busy machine, ms. */
const START_BOUND_MS = 180_000;
/** Longer than any command that a test waits for takes on a busy machine, ms. */
const COMMAND_BOUND_MS = 180_000;

/** Runs a command of an agent as a person would. */
export async function runCommand(
  agent: Agent,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = {},
): Promise<CommandResult> {
  const main = path.join(root, agent, 'main.ts');
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd,
    env: { ...process.env, ...env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const bound = setTimeout(() => child.kill('SIGKILL'), COMMAND_BOUND_MS);
  const [code, signal] = await once(child, 'close');
  clearTimeout(bound);
  assert.equal(signal, null, `${agent} ${args.join(' ')} does not end\n${stdout}${stderr}`);
  return { code, stdout, stderr };
}

/** Waits for a condition, with a bound that only a broken product reaches. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  boundMs = 120_000,
): Promise<void> {
  const end = performance.now() + boundMs;
  while (!(await condition())) {
    assert(performance.now() < end, `waited ${boundMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A daemon that is not told on which host it is has one of its own, not this machine's. */
function ownHostDir(args: readonly string[]): readonly string[] {
  const state = args[args.indexOf('--state-dir') + 1];
  if (!args.includes('--state-dir') || args.includes('--host-dir')) return [];
  return hostDir(`${state}-host`);
}

/** The option that says on which host an agent is. */
export function hostDir(dir: string): readonly string[] {
  return ['--host-dir', dir];
}
