import fs from 'node:fs';

const PAGE = 4096;
const CHUNK = 256 * PAGE;

/**
 * The pfns at which two RAM files of the same size differ. Both guests must be stopped.
 * @throws Error when the sizes differ
 */
export function compareRamFiles(first: string, second: string): number[] {
  const sizes = [first, second].map((file) => fs.statSync(file).size);
  if (sizes[0] !== sizes[1])
    throw new Error(`${first} has ${sizes[0]} bytes, ${second} has ${sizes[1]}`);
  const differing: number[] = [];
  const other = fs.openSync(second, 'r');
  const theirs = Buffer.allocUnsafe(CHUNK);
  try {
    forEachChunk(first, (ours, pfn) => {
      fs.readSync(other, theirs, 0, ours.length, pfn * PAGE);
      if (ours.equals(theirs.subarray(0, ours.length))) return;
      for (let at = 0; at < ours.length; at += PAGE)
        if (ours.compare(theirs, at, at + PAGE, at, at + PAGE) !== 0)
          differing.push(pfn + at / PAGE);
    });
  } finally {
    fs.closeSync(other);
  }
  return differing;
}

/** With what the pages begin that `checker.c` keeps, and the file of `init.sh`. */
export const CHECKED_PAGE = 'GODWITPG';
export const CHECKED_FILE = 'GODWITFILE';

/** The pfns of the pages that begin with this text. */
export function findPages(ramFile: string, text: string): number[] {
  const found: number[] = [];
  forEachChunk(ramFile, (chunk, pfn) => {
    for (let at = 0; at < chunk.length; at += PAGE)
      if (chunk.toString('latin1', at, at + text.length) === text) found.push(pfn + at / PAGE);
  });
  return found;
}

/** Flips one bit of a page's last byte. */
export function spoilPage(ramFile: string, pfn: number): void {
  const fd = fs.openSync(ramFile, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, pfn * PAGE + PAGE - 1);
  byte[0]! ^= 1;
  fs.writeSync(fd, byte, 0, 1, pfn * PAGE + PAGE - 1);
  fs.closeSync(fd);
}

function forEachChunk(file: string, visit: (chunk: Buffer, pfn: number) => void): void {
  const fd = fs.openSync(file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (let pfn = 0; ; pfn += CHUNK / PAGE) {
      const bytes = fs.readSync(fd, buffer, 0, CHUNK, pfn * PAGE);
      if (bytes === 0) return;
      visit(buffer.subarray(0, bytes), pfn);
    }
  } finally {
    fs.closeSync(fd);
  }
}
