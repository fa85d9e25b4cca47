import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { GodwitError } from '../../errors.ts';
import { poll } from '../../poll.ts';
import { formatDuration } from '../../units.ts';
import type { KeptFiles } from '../hypervisor.ts';
import { descends, type ProcessIdentity } from '../process-identity.ts';
import { ProcessLog } from '../process-log.ts';
import type { GuestDefinition } from './definition.ts';
import { QmpClient } from './qmp.ts';
import { RamFiles } from './ram-files.ts';

/** QEMU answers in a fraction of a second, but not before it has allocated what `prealloc` asks for. */
const START_LIMIT_MS = 60_000;
const POLL_MS = 10;
/** Lines of its output in an error: the complaint, and the warnings that came with it. */
const WORDS = 4;

export interface StartOptions {
  readonly definition: GuestDefinition;
  /** Bytes of each RAM block by its name. */
  readonly ramSizes: ReadonlyMap<string, number>;
  /** As for `Hypervisor.arrive`. */
  readonly kept?: KeptFiles | undefined;
  /** QEMU's stdout and stderr are appended to it. */
  readonly logFile: string;
  readonly limitMs?: number;
}

/** A QEMU that waits for its guest to arrive, and outlives this process. */
export interface StartedQemu extends ProcessIdentity {
  readonly qmp: QmpClient;
  /** The RAM blocks in which pages of an earlier time stand. */
  readonly kept: readonly string[];
  /** The last lines that it has printed, in one; for errors of what is done with it. */
  lastWords(): string;
}

/**
 * Starts the command of a definition, made to wait for a guest, and connects to its monitor.
 * @throws GodwitError hypervisor-failed, with QEMU's own words when it said any; guest-exists when
 *   the guest's monitor is served already; definition-invalid without a command; as
 *   `RamFiles`. Then nothing of what was made or started here is left
 */
export async function startQemu(options: StartOptions): Promise<StartedQemu> {
  const { definition, ramSizes } = options;
  const command = commandOf(definition);
  await requireUnserved(definition);
  const log = openLog(definition, options.logFile);
  let ram: RamFiles | undefined;
  try {
    ram = new RamFiles(definition.ram, ramSizes, options.kept);
    const qemu = await start(command, definition, log, options.limitMs ?? START_LIMIT_MS);
    ram.requireInPlace();
    return { ...qemu, kept: ram.kept };
  } catch (error) {
    ram?.remove();
    throw error;
  } finally {
    ram?.release();
    log.close();
  }
}

function openLog(definition: GuestDefinition, file: string): ProcessLog {
  try {
    return new ProcessLog(file);
  } catch (cause) {
    throw failure(definition, `cannot be started: its log: ${(cause as Error).message}`, cause);
  }
}

/** What makes it wait for a guest. */
const WAITING = ['-S', '-incoming', 'defer'];

/**
 * Starts the command of a definition as it stands there: its guest begins anew.
 * @throws as `startQemu`
 */
export async function bootQemu({
  definition,
  logFile,
}: Pick<StartOptions, 'definition' | 'logFile'>): Promise<StartedQemu> {
  const command = commandOf(definition);
  await requireUnserved(definition);
  const log = openLog(definition, logFile);
  try {
    return await start(command, definition, log, START_LIMIT_MS, []);
  } finally {
    log.close();
  }
}

async function start(
  command: readonly string[],
  definition: GuestDefinition,
  log: ProcessLog,
  limitMs: number,
  more = WAITING,
): Promise<StartedQemu> {
  const child = await launch(command, definition, log, more);
  let qmp: QmpClient | undefined;
  try {
    qmp = await monitorOf(child, definition.qmp, limitMs);
    const process = await startedBy(child, qmp);
    if (more === WAITING) await requireWaiting(qmp);
    return { ...process, qmp, kept: [], lastWords: () => log.lastWords(WORDS) };
  } catch (cause) {
    qmp?.close();
    const why = isEnded(child) ? endOf(child) : (cause as Error).message;
    await killed(child);
    throw failure(
      definition,
      `${why}: ${log.lastWords(WORDS) || `it printed nothing to ${log.path}`}`,
      cause,
    );
  } finally {
    child.unref();
  }
}

async function launch(
  command: readonly string[],
  definition: GuestDefinition,
  { fd }: ProcessLog,
  more: readonly string[],
): Promise<ChildProcess> {
  const [program, ...args] = command as [string, ...string[]];
  args.push(...more);
  try {
    const child = spawn(program, args, { detached: true, stdio: ['ignore', fd, fd], cwd: '/' });
    await once(child, 'spawn');
    return child;
  } catch (cause) {
    throw failure(definition, `cannot be started: ${(cause as Error).message}`, cause);
  }
}

/** Its monitor may take long to appear, and a QEMU that has an error ends before it does. */
async function monitorOf(child: ChildProcess, path: string, limitMs: number): Promise<QmpClient> {
  const deadline = performance.now() + limitMs;
  let cause: unknown;
  const qmp = await poll(limitMs, POLL_MS, async () => {
    const greetingLimitMs = Math.max(POLL_MS, deadline - performance.now());
    try {
      return await QmpClient.connect(path, { greetingLimitMs });
    } catch (error) {
      if (isEnded(child)) throw error;
      cause = error;
      return undefined;
    }
  });
  if (qmp !== undefined) return qmp;
  const why = `does not serve its QMP socket within ${formatDuration(limitMs)}`;
  throw new GodwitError('hypervisor-failed', why, { cause });
}

/** A command that drops its last arguments (`sh -c …`) must not leave a guest running. */
async function requireWaiting(qmp: QmpClient): Promise<void> {
  const { status } = await qmp.execute<{ status: string }>('query-status').catch((cause: Error) => {
    throw new GodwitError('hypervisor-failed', `does not say its state: ${cause.message}`, {
      cause,
    });
  });
  if (status === 'inmigrate') return;
  const why = `is ${status} instead of waiting for a migration: its command has to pass its last arguments on`;
  throw new GodwitError('hypervisor-failed', why);
}

/** The process that answers: the child, or what a command that wraps QEMU has started. */
async function startedBy({ pid }: ChildProcess, qmp: QmpClient): Promise<ProcessIdentity> {
  const process = await qmp.process();
  if (descends(process.pid, pid!)) return process;
  const why = `did not open its QMP socket: process ${process.pid}, which it has not started, serves ${qmp.path}`;
  throw new GodwitError('hypervisor-failed', why);
}

function commandOf({ name, file, command }: GuestDefinition): readonly string[] {
  if (command !== undefined) return command;
  const text = `${file}: "command" is missing, so guest ${name} cannot be started on this host`;
  throw new GodwitError('definition-invalid', text);
}

/** @throws GodwitError guest-exists when a process serves the guest's monitor */
export async function requireUnserved({ name, qmp }: GuestDefinition): Promise<void> {
  if (await QmpClient.serves(qmp))
    throw new GodwitError('guest-exists', `guest ${name} is here already: QEMU serves ${qmp}`);
}

function failure({ name }: GuestDefinition, what: string, cause: unknown): GodwitError {
  return new GodwitError('hypervisor-failed', `QEMU of guest ${name} ${what}`, { cause });
}

function isEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

function endOf({ exitCode, signalCode }: ChildProcess): string {
  return exitCode === null ? `was ended by ${signalCode}` : `exited with ${exitCode}`;
}

/** With what it has started, which has its process group. */
async function killed(child: ChildProcess): Promise<void> {
  const exit = isEnded(child) ? undefined : once(child, 'exit');
  try {
    process.kill(-child.pid!, 'SIGKILL');
  } catch {
    // nobody is left in it
  }
  await exit;
}
