import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import type { GuestDefinition } from './definition.ts';
import { identify, isAlive, type ProcessIdentity } from './process-identity.ts';
import { ProcessLog } from './process-log.ts';
import { QmpClient } from './qmp.ts';
import { makeRamFiles, removeRamFiles } from './ram-files.ts';

/** QEMU answers in a fraction of a second, but not before it has allocated what `prealloc` asks for. */
const START_LIMIT_MS = 60_000;
const POLL_MS = 10;
/** QEMU quits in milliseconds; a machine under load gets more before it is killed. */
const QUIT_LIMIT_MS = 5_000;
/** The kernel may have hundreds of GiB to free. */
const KILL_LIMIT_MS = 30_000;
/** Lines of its output in an error: the complaint, and the warnings that came with it. */
const WORDS = 4;

export interface StartOptions {
  readonly definition: GuestDefinition;
  /** Bytes of each RAM block by its name; without them QEMU makes the RAM files itself. */
  readonly ramSizes?: ReadonlyMap<string, number>;
  /** QEMU's stdout and stderr are appended to it. */
  readonly logFile: string;
  readonly limitMs?: number;
}

/** A QEMU that waits for its guest to arrive, and outlives this process. */
export interface StartedQemu extends ProcessIdentity {
  readonly qmp: QmpClient;
  /** The last lines that it has printed, in one; for errors of what is done with it. */
  lastWords(): string;
}

/**
 * Starts the command of a definition, made to wait for a guest, and connects to its monitor.
 * @throws GodwitError hypervisor-failed, with QEMU's own words when it said any; guest-exists when
 *   the guest's monitor is served already; definition-invalid without a command; as `makeRamFiles`
 */
export async function startQemu(options: StartOptions): Promise<StartedQemu> {
  const { definition, ramSizes } = options;
  const command = commandOf(definition);
  if (await isServed(definition.qmp)) throw alreadyThere(definition);
  const log = openLog(definition, options.logFile);
  try {
    if (ramSizes === undefined) removeRamFiles(definition.ram);
    else makeRamFiles(definition.ram, ramSizes);
    return await start(command, definition, log, options.limitMs ?? START_LIMIT_MS);
  } catch (error) {
    removeRamFiles(definition.ram);
    throw error;
  } finally {
    log.close();
  }
}

/**
 * Ends a QEMU and waits until it is gone: by its monitor if it is at hand, else, or if that does not
 * help, by killing the process; never another one that has got the same pid.
 * @throws GodwitError hypervisor-failed when the process will not end
 */
export async function endQemu(qemu: ProcessIdentity, qmp?: QmpClient): Promise<void> {
  qmp?.executeLast('quit').catch(() => {}); // whether it did is seen by the process
  const quitted = qmp !== undefined && (await isGone(qemu, QUIT_LIMIT_MS));
  qmp?.close();
  if (quitted || !isAlive(qemu)) return;
  try {
    process.kill(qemu.pid, 'SIGKILL');
  } catch (cause) {
    const why = `cannot end QEMU process ${qemu.pid}: ${(cause as Error).message}`;
    if (isAlive(qemu)) throw new GodwitError('hypervisor-failed', why, { cause });
  }
  if (await isGone(qemu, KILL_LIMIT_MS)) return;
  throw new GodwitError('hypervisor-failed', `QEMU process ${qemu.pid} does not end`);
}

function openLog(definition: GuestDefinition, file: string): ProcessLog {
  try {
    return new ProcessLog(file);
  } catch (cause) {
    throw failure(definition, `cannot be started: its log: ${(cause as Error).message}`, cause);
  }
}

async function start(
  command: readonly string[],
  definition: GuestDefinition,
  log: ProcessLog,
  limitMs: number,
): Promise<StartedQemu> {
  const child = await launch(command, definition, log);
  try {
    const qmp = await monitorOf(child, definition.qmp, limitMs);
    await requireWaiting(qmp);
    return { ...identityOf(child), qmp, lastWords: () => log.lastWords(WORDS) };
  } catch (cause) {
    const why = isEnded(child) ? endOf(child) : (cause as Error).message;
    if (!isEnded(child)) await killed(child);
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
): Promise<ChildProcess> {
  const [program, ...args] = command as [string, ...string[]];
  args.push('-S', '-incoming', 'defer');
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
  for (const deadline = Date.now() + limitMs; ; await sleep(POLL_MS)) {
    const greetingLimitMs = Math.max(POLL_MS, deadline - Date.now());
    try {
      return await QmpClient.connect(path, { greetingLimitMs });
    } catch (error) {
      if (isEnded(child)) throw error;
      if (Date.now() > deadline)
        throw new GodwitError(
          'hypervisor-failed',
          `does not serve its QMP socket within ${formatDuration(limitMs)}`,
          { cause: error },
        );
    }
  }
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

function identityOf({ pid }: ChildProcess): ProcessIdentity {
  const identity = identify(pid!);
  if (identity !== undefined) return identity;
  throw new GodwitError('hypervisor-failed', 'ended as soon as its monitor had answered');
}

function commandOf({ name, file, command }: GuestDefinition): readonly string[] {
  if (command !== undefined) return command;
  const text = `${file}: "command" is missing, so guest ${name} cannot be started on this host`;
  throw new GodwitError('definition-invalid', text);
}

/** True when a process listens on the socket, however many wait for it. */
async function isServed(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = connect(path, () => resolve(true));
  probe.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'EAGAIN'));
  const served = await promise;
  probe.destroy();
  return served;
}

function alreadyThere({ name, qmp }: GuestDefinition): GodwitError {
  return new GodwitError('guest-exists', `guest ${name} is here already: QEMU serves ${qmp}`);
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

async function killed(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

async function isGone(qemu: ProcessIdentity, limitMs: number): Promise<boolean> {
  for (const deadline = Date.now() + limitMs; isAlive(qemu); await sleep(POLL_MS))
    if (Date.now() > deadline) return false;
  return true;
}
