import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../errors.ts';
import { StateProgress } from './state-progress.ts';

/** By which another thread takes part in a spool. */
export interface SpoolShare {
  readonly path: string;
  readonly progress: SharedArrayBuffer;
}

/**
 * A file in memory in which a device state grows while others read it already: between a hypervisor
 * and the lanes, on either side. It has no name, so nothing is left of it, whoever dies.
 */
export class StateSpool {
  readonly progress: StateProgress;
  readonly #fd: number;
  #closed = false;

  private constructor(fd: number, progress: StateProgress) {
    this.#fd = fd;
    this.progress = progress;
  }

  /**
   * @param dir in memory
   * @param writers that share its parts
   * @throws GodwitError ram-file-failed
   */
  static open(dir: string, writers: number): StateSpool {
    const file = path.join(dir, `.godwit-state-${randomBytes(8).toString('hex')}`);
    return attempt(`a file for device state in ${dir}`, () => {
      const fd = fs.openSync(file, 'wx+', 0o600);
      fs.unlinkSync(file);
      return new StateSpool(fd, StateProgress.of(writers));
    });
  }

  /** Where a process of the same user finds it while it is open. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  get share(): SpoolShare {
    return { path: this.path, progress: this.progress.shared };
  }

  /** Gives it up and frees its room, once nobody else has it open; may be called more than once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.progress.giveUp();
    fs.closeSync(this.#fd);
  }
}

/**
 * A task's end of a spool: reads and writes are synchronous, as they are of guest memory, and `cancelled`
 * once it is closed.
 */
export class SpoolEnd {
  readonly progress: StateProgress;
  readonly #fd: number;
  #closed = false;

  /** @throws GodwitError ram-file-failed */
  constructor({ path, progress }: SpoolShare) {
    this.progress = new StateProgress(progress);
    this.#fd = attempt(FILE, () => fs.openSync(path, 'r+'));
  }

  /** Fills `into` with what stands from `offset` on. */
  read(offset: number, into: Uint8Array): void {
    this.#requireOpen();
    for (let done = 0; done < into.length; ) {
      const left = into.length - done;
      const got = attempt(FILE, () => fs.readSync(this.#fd, into, done, left, offset + done));
      if (got === 0) throw new GodwitError('ram-file-failed', `${FILE} ended at ${offset + done}`);
      done += got;
    }
  }

  /** @throws GodwitError ram-file-failed when there is no room */
  write(offset: number, bytes: Uint8Array): void {
    this.#requireOpen();
    // tmpfs writes in part when it runs full in the middle; the next try then gives the reason.
    for (let done = 0; done < bytes.length; ) {
      const left = bytes.length - done;
      done += attempt(FILE, () => fs.writeSync(this.#fd, bytes, done, left, offset + done));
    }
  }

  /** May be called more than once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    fs.closeSync(this.#fd);
  }

  /** The number of a closed descriptor may be another file's by now. */
  #requireOpen(): void {
    if (this.#closed) throw new GodwitError('cancelled', 'the device state is wanted no more');
  }
}

const FILE = 'the file for device state';

function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOSPC' ? 'no memory left in its file system' : (code ?? message);
    throw new GodwitError('ram-file-failed', `${what}: ${why}`, { cause });
  }
}
