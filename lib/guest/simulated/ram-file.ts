import { ftruncateSync, openSync, readdirSync, renameSync, statfsSync, statSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { GodwitError } from '../../errors.ts';
import { formatSize } from '../../units.ts';
import { memoryFileName } from '../orphans.ts';

/** From linux/magic.h: files on tmpfs live in main memory. */
const TMPFS_MAGIC = 0x01021994;

/** Of what stat counts. */
const BLOCK = 512;

/** The file that holds a guest's memory: sparse, mode 0600; the VMM removes it when it ends. */
export class RamFile {
  readonly path: string;
  readonly fd: number;

  /**
   * @param kept a RAM file in the same directory that becomes this one, whatever is in it
   * @throws GodwitError memory-insufficient, ram-file-failed
   */
  constructor(dir: string, guest: string, bytes: number, kept?: string) {
    this.path = join(dir, memoryFileName(guest, 'ram'));
    requireRoom(dir, guest, kept === undefined ? bytes : 0); // what it has not yet is promised
    try {
      if (kept !== undefined) renameSync(kept, this.path);
      this.fd = openSync(this.path, kept === undefined ? 'wx+' : 'r+', 0o600);
      ftruncateSync(this.fd, bytes);
    } catch (cause) {
      throw ramFileFailed(`cannot create ${this.path}`, cause);
    }
  }
}

/** @throws GodwitError memory-insufficient, ram-file-failed */
export function requireRoom(dir: string, guest: string, bytes: number): void {
  let room: number;
  try {
    const { type, bavail, bsize } = statfsSync(dir);
    const free = type === TMPFS_MAGIC ? Math.min(bavail * bsize, freemem()) : bavail * bsize;
    room = Math.max(0, free - promised(dir));
  } catch (cause) {
    throw ramFileFailed(`cannot use ${dir} for guest memory`, cause);
  }
  if (room >= bytes) return;
  throw new GodwitError(
    'memory-insufficient',
    `guest ${guest} needs ${formatSize(bytes)} of memory, but ${dir} has room for ${formatSize(room)}`,
  );
}

/** Bytes that guests have in their files and not yet on the disk: those that arrive fill them. */
function promised(dir: string): number {
  const files = readdirSync(dir).filter((name) => name.endsWith('.ram'));
  return files.reduce((sum, name) => {
    const stats = statSync(join(dir, name), { throwIfNoEntry: false });
    return sum + Math.max(0, (stats?.size ?? 0) - (stats?.blocks ?? 0) * BLOCK);
  }, 0);
}

function ramFileFailed(what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError('ram-file-failed', `${what}: ${why}`, { cause });
}
