import { closeSync, ftruncateSync, openSync, rmSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import { CHUNK_SIZE, PAGE_SIZE, type Region, type RegionFile } from '../../memory/guest-layout.ts';
import { formatSize } from '../../units.ts';
import { memoryFileName } from '../orphans.ts';

/**
 * A file for the memory that QEMU gets in its stream: the receiver's workers write pages to it,
 * the egress worker reads them. Sparse, readable by nobody else.
 */
export class StagingFile {
  readonly path: string;
  /** A place for each region, on a chunk. */
  readonly memory: readonly RegionFile[];

  readonly #dir: string;
  readonly #bytes: number;

  /** Not made yet. @param guest its name becomes part of the file's */
  constructor(dir: string, guest: string, regions: readonly Region[]) {
    this.path = path.join(dir, memoryFileName(guest, 'staging'));
    let end = 0;
    this.memory = regions.map((region) => {
      const offset = end;
      end += Math.ceil((region.pages * PAGE_SIZE) / CHUNK_SIZE) * CHUNK_SIZE;
      return { region, path: this.path, offset };
    });
    this.#dir = dir;
    this.#bytes = end;
  }

  /** Frees its room; harmless when it is gone. */
  remove(): void {
    rmSync(this.path, { force: true });
  }

  /**
   * @param most bytes that it can come to hold, where regions have holes
   * @throws GodwitError memory-insufficient, ram-file-failed
   */
  make(most = this.#bytes): void {
    try {
      requireRoom(this.#dir, most);
      const fd = openSync(this.path, 'wx', 0o600);
      try {
        ftruncateSync(fd, this.#bytes);
      } finally {
        closeSync(fd);
      }
    } catch (cause) {
      this.remove();
      if (cause instanceof GodwitError) throw cause;
      const why = `cannot make the staging file ${this.path}: ${(cause as Error).message}`;
      throw new GodwitError('ram-file-failed', why, { cause });
    }
  }
}

/** @throws GodwitError memory-insufficient */
export function requireRoom(dir: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(dir);
  const room = bavail * bsize;
  if (room >= bytes) return;
  const text = `${formatSize(bytes)} of the guest's memory have to be staged, but ${dir} has room for ${formatSize(room)}`;
  throw new GodwitError('memory-insufficient', text);
}
