import fs from 'node:fs';
import { GodwitError } from '../errors.ts';
import { PAGE_SIZE, type RegionFile } from './guest-layout.ts';

/**
 * Guest memory through the files that hold it: page reads and writes by pfn, synchronous, for
 * worker threads. A read or write stays within one chunk and so within one region.
 */
export class GuestMemory {
  readonly #files: {
    firstPfn: number;
    endPfn: number;
    offset: number;
    fd: number;
    path: string;
  }[] = [];

  /** @throws GodwitError ram-file-failed when a file cannot be opened or is too short. */
  constructor(files: readonly RegionFile[], access: 'read' | 'read-write') {
    try {
      for (const { region, path, offset } of files) {
        const fd = this.#attempt(path, () => fs.openSync(path, access === 'read' ? 'r' : 'r+'));
        const { firstPfn, pages } = region;
        this.#files.push({ firstPfn, endPfn: firstPfn + pages, offset, fd, path });
        const size = this.#attempt(path, () => fs.fstatSync(fd).size);
        if (size < offset + pages * PAGE_SIZE)
          throw new GodwitError(
            'ram-file-failed',
            `${path} has ${size} bytes, region ${region.name} needs ${offset + pages * PAGE_SIZE}`,
          );
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Reads `pages` pages from `pfn` on into `into` at byte `at`. */
  read(pfn: number, pages: number, into: Uint8Array, at: number): void {
    const file = this.#fileOf(pfn, pages);
    const length = pages * PAGE_SIZE;
    const position = file.offset + (pfn - file.firstPfn) * PAGE_SIZE;
    const got = this.#attempt(file.path, () => fs.readSync(file.fd, into, at, length, position));
    if (got !== length)
      throw new GodwitError('ram-file-failed', `${file.path} ended at byte ${position + got}`);
  }

  /** Writes `pages` pages from `from` at byte `at` to `pfn` on. */
  write(pfn: number, pages: number, from: Uint8Array, at: number): void {
    const file = this.#fileOf(pfn, pages);
    const end = at + pages * PAGE_SIZE;
    let position = file.offset + (pfn - file.firstPfn) * PAGE_SIZE;
    // tmpfs writes in part when it runs full in the middle; the next try then gives the reason.
    for (let done = at; done < end; ) {
      const start = done;
      const wrote = this.#attempt(file.path, () =>
        fs.writeSync(file.fd, from, start, end - start, position),
      );
      done += wrote;
      position += wrote;
    }
  }

  close(): void {
    for (const { fd } of this.#files.splice(0)) fs.closeSync(fd);
  }

  #fileOf(pfn: number, pages: number) {
    const file = this.#files.find((f) => pfn >= f.firstPfn && pfn + pages <= f.endPfn);
    if (!file)
      throw new GodwitError(
        'pfn-out-of-range',
        `the guest has no pages ${pfn} to ${pfn + pages - 1}`,
      );
    return file;
  }

  #attempt<T>(path: string, action: () => T): T {
    try {
      return action();
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      const why = code === 'ENOSPC' ? 'no memory left in its file system' : code;
      throw new GodwitError('ram-file-failed', `RAM file ${path}: ${why}`, { cause });
    }
  }
}
