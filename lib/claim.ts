import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { GodwitError } from './errors.ts';

/** flock(1) answers at once; a machine that cannot start it in this time cannot be relied on, ms. */
const LIMIT_MS = 10_000;

/**
 * A name that one process at a time has: an exclusive flock(2) on a file, held by an open descriptor.
 * The kernel frees it when the process ends, however it ends, and it counts on the whole host,
 * whatever network namespace anybody is in. Node has no flock, so util-linux's locks the descriptor
 * that it inherits: the lock belongs to the open file, not to the process that asked for it.
 */
export class Claim {
  readonly file: string;
  #fd: number | undefined;

  private constructor(file: string, fd: number) {
    this.file = file;
    this.#fd = fd;
  }

  /**
   * Undefined when somebody else has it, in this process or another one.
   * @throws GodwitError claim-failed when the file cannot be made or locked at all
   */
  static async take(file: string): Promise<Claim | undefined> {
    for (;;) {
      const fd = open(file);
      let locked = false;
      try {
        locked = await locks(fd, file);
        if (locked && names(file, fd)) return new Claim(file, fd);
      } catch (error) {
        fs.closeSync(fd);
        throw error;
      }
      fs.closeSync(fd);
      if (!locked) return undefined;
    }
  }

  get held(): boolean {
    return this.#fd !== undefined;
  }

  /** Harmless when it was given back before. */
  release(): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Gives it back with nothing left of it, for a name that may never be claimed again. */
  remove(): void {
    if (this.held) fs.rmSync(this.file, { force: true }); // whoever waits for it looks again
    this.release();
  }
}

/** Whether the file is still the one that was opened: its last holder may have removed it. */
function names(file: string, fd: number): boolean {
  const [opened, found] = [fs.fstatSync(fd), fs.lstatSync(file, { throwIfNoEntry: false })];
  return opened.dev === found?.dev && opened.ino === found.ino;
}

/**
 * A link in its place would have somebody else's file locked, and in a directory where others can
 * make files they could hold the name for ever, or have another file locked each time.
 */
function open(file: string): number {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
  try {
    requireOwned(path.dirname(file));
    return fs.openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw failed(file, (cause as Error).message, cause);
  }
}

/** A directory in which nobody else can change what the agent has there. @throws Error */
export function requireOwned(dir: string): void {
  const { uid, mode } = fs.statSync(dir);
  if (uid !== process.geteuid!()) throw new Error(`${dir} belongs to user ${uid}`);
  if (mode & 0o022) throw new Error(`others may write to ${dir}; use "chmod go-w"`);
}

async function locks(fd: number, file: string): Promise<boolean> {
  const child = spawn('flock', ['--nonblock', '--conflict-exit-code', '75', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', fd],
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  let code: number | null;
  try {
    [code] = await once(child, 'close');
  } catch (cause) {
    const why = `flock of util-linux cannot be run: ${(cause as Error).message}`;
    throw failed(file, why, cause);
  }
  if (code === 0) return true;
  if (code === 75) return false;
  throw failed(file, `flock of util-linux ended with ${code}`);
}

function failed(file: string, why: string, cause?: unknown): GodwitError {
  return new GodwitError('claim-failed', `${file} cannot be locked: ${why}`, { cause });
}
