import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Why there can be no small file systems here, or undefined when there can. */
export function noSmallDisks(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting a tmpfs needs root';
  try {
    new SmallDisk().remove();
    return undefined;
  } catch (error) {
    return `a tmpfs cannot be mounted: ${(error as Error).message.trim()}`;
  }
}

/** A file system that can be full. */
export class SmallDisk {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-disk-'));

  constructor(size = '512k') {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'tmpfs', this.dir], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }

  /** Leaves no byte free. */
  fill(): void {
    const fd = fs.openSync(path.join(this.dir, 'ballast'), 'a');
    try {
      for (const size of [4096, 1]) {
        const block = Buffer.alloc(size, 1);
        while (writes(fd, block));
      }
    } finally {
      fs.closeSync(fd);
    }
  }

  free(): void {
    fs.rmSync(path.join(this.dir, 'ballast'), { force: true });
  }

  remove(): void {
    try {
      execFileSync('umount', ['--lazy', this.dir], { stdio: 'ignore' });
    } finally {
      fs.rmdirSync(this.dir);
    }
  }
}

function writes(fd: number, block: Buffer): boolean {
  try {
    return fs.writeSync(fd, block) > 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}

/** Why there can be no slow disks here, or undefined when there can. */
export function noSlowDisks(): string | undefined {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'there is no gcc';
  }
}

/** What a disk does with what is to be made durable; see slow-disk.c. */
export type Mood = 'fine' | 'slow' | 'hang' | 'fail' | 'fail-later' | 'full';

/** A disk below a directory that hangs and fails when it is told to. */
export class SlowDisk {
  readonly #dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-slow-'));
  readonly #library = path.join(this.#dir, 'slow-disk.so');
  readonly #control = path.join(this.#dir, 'control');

  constructor() {
    const source = fileURLToPath(new URL('slow-disk.c', import.meta.url));
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', this.#library, source, '-ldl']);
  }

  /** The environment of a process whose files below `dir` lie on it. */
  readonly env = (dir: string): NodeJS.ProcessEnv => ({
    LD_PRELOAD: this.#library,
    SLOW_DISK_DIR: dir,
    SLOW_DISK_CONTROL: this.#control,
  });

  /** In one step: nobody reads half a word. */
  set mood(mood: Mood) {
    const next = `${this.#control}.new`;
    fs.writeFileSync(next, mood === 'fine' ? '' : mood);
    fs.renameSync(next, this.#control);
  }

  remove(): void {
    fs.rmSync(this.#dir, { recursive: true });
  }
}
