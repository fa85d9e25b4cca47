import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { within } from '../../poll.ts';
import { GO, type ReceiverMessage, ReceiverMessages } from '../../stream/xen/handshake.ts';
import { endProcess } from '../end-process.ts';
import { type BootProcess, inThisBoot } from '../handle.ts';
import { hasOpen, identify, type ProcessIdentity, pids } from '../process-identity.ts';
import { ProcessLog } from '../process-log.ts';
import type { Xl } from './xl.ts';

/** xl says its banner before it does anything. */
const BANNER_LIMIT_MS = 15_000;
/** xl has all of the stream; a PV guest's page tables are pinned, and a device model started. */
const READY_LIMIT_MS = 60_000;

/** Where an `xl migrate-receive` reads, writes and complains. */
export function pipesIn(dir: string) {
  return { input: path.join(dir, 'in'), output: path.join(dir, 'out'), log: path.join(dir, 'log') };
}

/** The `xl migrate-receive` that has these pipes, whoever has started it. */
export function receiverIn(dir: string): BootProcess | undefined {
  const [found] = holdersOf(dir);
  return found && inThisBoot(found);
}

/**
 * Ends what an `xl migrate-receive` that has ended has left: the helper that restores for it waits for more
 * of a stream whose end it never sees, since it holds that open itself. @throws GodwitError hypervisor-failed
 */
export async function endLeftOvers(dir: string): Promise<void> {
  for (const one of holdersOf(dir)) await endProcess(one);
}

/** Processes that have its input open, but this one. */
function holdersOf(dir: string): ProcessIdentity[] {
  const { input } = pipesIn(dir);
  const found = pids().filter((pid) => hasOpen(pid, input) && pid !== process.pid);
  return found.flatMap((pid) => identify(pid) ?? []);
}

/** Hands GO to an `xl migrate-receive`: from here on its guest runs. @throws what opening fails with: it has ended */
export function handGo(dir: string): void {
  const fd = openSync(pipesIn(dir).input, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    writeSync(fd, GO); // whole or not at all: PIPE_BUF, pipe(7)
  } finally {
    closeSync(fd);
  }
}

/**
 * An `xl migrate-receive` with named pipes, which it holds open itself: it outlives this agent, and hears
 * GO of another one. An end of its input it never sees; whoever does not want it ends it.
 */
export class Receiver {
  readonly dir: string;
  readonly process: BootProcess;
  readonly #log: ProcessLog;
  readonly #output: net.Socket;
  readonly #banner = Promise.withResolvers<void>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #report = Promise.withResolvers<number>();
  readonly #death = Promise.withResolvers<GodwitError>();

  private constructor(dir: string, log: ProcessLog, child: ChildProcess) {
    this.dir = dir;
    this.#log = log;
    this.process = inThisBoot(identify(child.pid!)!);
    for (const { promise } of [this.#banner, this.#ready, this.#report]) promise.catch(() => {});
    const fd = openSync(pipesIn(dir).output, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#output = new net.Socket({ fd, readable: true, writable: false });
    const messages = new ReceiverMessages((message) => this.#hear(message));
    this.#output.on('data', (bytes: Buffer) => {
      try {
        messages.feed(bytes);
      } catch (error) {
        this.#lose(asGodwitError(error));
      }
    });
    this.#output.on('error', () => {});
    child.once('exit', (code, signal) => {
      const words = this.#log.lastWords(2);
      const how = signal === null ? `exited with ${code}` : `was ended by ${signal}`;
      const text = `xl migrate-receive ${how}${words && `: ${words}`}`;
      this.#lose(new GodwitError('hypervisor-failed', text));
    });
  }

  /** @param flags of `xl migrate-receive` @throws GodwitError hypervisor-failed */
  static async start(xl: Xl, dir: string, flags: readonly string[] = []): Promise<Receiver> {
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const { input, output, log: logPath } = pipesIn(dir);
    await promisify(execFile)('mkfifo', ['-m', '600', input, output]);
    const fds = [input, output].map((file) => openSync(file, constants.O_RDWR));
    const log = new ProcessLog(logPath);
    try {
      const child = spawn(xl.program, ['migrate-receive', ...flags], {
        cwd: '/',
        detached: true, // what ends this agent does not end it
        stdio: [fds[0]!, fds[1]!, log.fd],
      });
      await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
      child.unref();
      return new Receiver(dir, log, child);
    } catch (cause) {
      const text = `${xl.program} cannot be started: ${(cause as Error).message}`;
      throw new GodwitError('hypervisor-failed', text, { cause });
    } finally {
      for (const fd of fds) closeSync(fd);
      log.close();
    }
  }

  /** It waits for a stream. */
  async greeted(): Promise<void> {
    await within(BANNER_LIMIT_MS, this.#banner.promise, () => silent('greet', BANNER_LIMIT_MS));
  }

  /** It has all of the guest, which is paused. */
  async loaded(): Promise<void> {
    await within(READY_LIMIT_MS, this.#ready.promise, () => silent('get ready', READY_LIMIT_MS));
  }

  /** What came of GO: 0, or why the guest does not run. Rejects when it ends without a word. */
  reported(): Promise<number> {
    return this.#report.promise;
  }

  /** Calls back when it has ended, or says what it should not. */
  onDeath(listener: (error: GodwitError) => void): void {
    void this.#death.promise.then(listener);
  }

  /** Listens no more. */
  close(): void {
    this.#output.destroy();
  }

  #hear(message: ReceiverMessage): void {
    if (message.type === 'banner') this.#banner.resolve();
    else if (message.type === 'ready') this.#ready.resolve();
    else if (message.type === 'report') this.#report.resolve(message.code);
  }

  #lose(error: GodwitError): void {
    for (const waiting of [this.#banner, this.#ready, this.#report]) waiting.reject(error);
    this.#death.resolve(error);
  }
}

function silent(what: string, limitMs: number): GodwitError {
  const text = `xl migrate-receive did not ${what} within ${limitMs / 1000}s`;
  return new GodwitError('hypervisor-failed', text);
}
