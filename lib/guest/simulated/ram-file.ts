import { ftruncateSync, openSync, rmSync, statfsSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { GodwitError } from '../../errors.ts';
import { formatSize } from '../../units.ts';

/** From linux/magic.h: files on tmpfs live in main memory. */
const TMPFS_MAGIC = 0x01021994;

/** The file that holds a guest's memory: sparse, mode 0600; the VMM removes it when it ends. */
export class RamFile {
  readonly path: string;
  readonly fd: number;

  /** @throws GodwitError memory-insufficient, ram-file-failed */
  constructor(dir: string, guest: string, bytes: number) {
    this.path = join(dir, `godwit-${guest}-${process.pid}.ram`);
    requireRoom(dir, guest, bytes);
    try {
      rmSync(this.path, { force: true }); // of a dead process that had our pid
      this.fd = openSync(this.path, 'wx+', 0o600);
      ftruncateSync(this.fd, bytes);
    } catch (cause) {
      throw ramFileFailed(`cannot create ${this.path}`, cause);
    }
  }
}

function requireRoom(dir: string, guest: string, bytes: number): void {
  let room: number;
  try {
    const { type, bavail, bsize } = statfsSync(dir);
    room = type === TMPFS_MAGIC ? Math.min(bavail * bsize, freemem()) : bavail * bsize;
  } catch (cause) {
    throw ramFileFailed(`cannot use ${dir} for guest memory`, cause);
  }
  if (room >= bytes) return;
  throw new GodwitError(
    'memory-insufficient',
    `guest ${guest} needs ${formatSize(bytes)} of memory, but ${dir} has room for ${formatSize(room)}`,
  );
}

function ramFileFailed(what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError('ram-file-failed', `${what}: ${why}`, { cause });
}
