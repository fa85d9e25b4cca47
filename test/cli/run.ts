import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command line that runs. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when the text has been printed on either stream; rejects if it ends without. */
  saw(text: string): Promise<void>;
  /** What it has printed so far. */
  printed(): string;
}

type Agent = 'agent-send' | 'agent-recv';

/** Starts an agent as a person would: its launcher, no terminal. */
export function start(agent: Agent, args: readonly string[], cwd = root): Running {
  const launcher = path.join(root, agent, agent);
  return watch(spawn(launcher, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** Follows a process whose stdout and stderr are pipes. */
export function watch(child: ChildProcess): Running {
  const streams = { stdout: '', stderr: '' };
  const printed = () => `${streams.stdout}${streams.stderr}`;
  let hasEnded = false;
  let waiting: (() => void)[] = [];
  const wake = () => {
    const woken = waiting;
    waiting = [];
    for (const resolve of woken) resolve();
  };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]!.setEncoding('utf8').on('data', (piece: string) => {
      streams[name] += piece;
      wake();
    });
  // Not at its exit: what it has printed may still be on its way then.
  const ended = once(child, 'close').then(([code]) => {
    hasEnded = true;
    wake();
    return { code, ...streams };
  });
  const saw = async (text: string) => {
    while (!printed().includes(text)) {
      if (hasEnded) throw new Error(`it ended: ${streams.stderr}`);
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  };
  return { child, ended, saw, printed };
}

/** Runs a command to its end. */
export function run(agent: Agent, ...args: string[]): Promise<Ended> {
  return start(agent, args).ended;
}
