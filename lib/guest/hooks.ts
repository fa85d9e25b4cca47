import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GodwitError } from '../errors.ts';
import { formatDuration } from '../units.ts';
import type { Moment } from './guest.ts';
import type { HookContext } from './hypervisor.ts';
import { ProcessLog } from './process-log.ts';
import { whyNotStarted } from './program.ts';

/** A command that an operator wants run at some moment of a migration. */
export interface Hook {
  readonly command: readonly string[];
  readonly limitMs: number;
}

/**
 * Runs an operator's command and waits for its end. It has no stdin and no shell; its stdout is
 * dropped; it and its children are killed at its time limit.
 * @throws GodwitError hook-failed with the last line of its stderr: it cannot be started, took too
 *   long, or did not exit with 0
 */
export async function runHook(name: Moment, hook: Hook, context: HookContext): Promise<void> {
  const complaint = await run(hook, context).catch(
    (error: Error) => `cannot be started: ${error.message}`,
  );
  if (complaint === undefined) return;
  throw new GodwitError('hook-failed', `hook ${name} of guest ${context.guest} ${complaint}`);
}

/** @throws GodwitError hook-failed when it could not be started, as far as its file shows */
export function requireStartable(name: Moment, { command }: Hook): void {
  const [program] = command as [string];
  const why = whyNotStarted(program);
  if (why === undefined) return;
  throw new GodwitError('hook-failed', `hook ${name} cannot be started: ${program} ${why}`);
}

/** What went wrong, undefined when nothing did. */
async function run(hook: Hook, context: HookContext): Promise<string | undefined> {
  const dir = mkdtempSync(join(tmpdir(), 'godwit-hook-'));
  try {
    const log = new ProcessLog(join(dir, 'stderr'));
    const child = await start(hook.command, context, log.fd).finally(() => log.close());
    const how = await endOf(child, hook.limitMs);
    const words = log.lastWords(1);
    return how && `${how}${words && `: ${words}`}`;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function start(
  [program, ...args]: readonly string[],
  context: HookContext,
  stderr: number,
): Promise<ChildProcess> {
  const child = spawn(program!, args, {
    cwd: '/',
    detached: true, // a process group of its own
    stdio: ['ignore', 'ignore', stderr],
    env: { ...process.env, ...environmentOf(context) },
  });
  await once(child, 'spawn');
  return child;
}

function environmentOf({ guest, migration, side, peer }: HookContext): Record<string, string> {
  return {
    GODWIT_GUEST: guest,
    GODWIT_MIGRATION: migration,
    GODWIT_SIDE: side,
    GODWIT_PEER: peer,
  };
}

/** How it ended, undefined when that was well. */
async function endOf(child: ChildProcess, limitMs: number): Promise<string | undefined> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killGroup(child);
  }, limitMs);
  const [code, signal] = await once(child, 'exit').finally(() => clearTimeout(timer));
  if (code === 0) return undefined;
  if (late) return `did not end within ${formatDuration(limitMs)} and was killed`;
  return signal === null ? `exited with ${code}` : `was ended by ${signal}`;
}

function killGroup({ pid }: ChildProcess): void {
  try {
    process.kill(-pid!, 'SIGKILL');
  } catch {
    // it has just ended by itself
  }
}
