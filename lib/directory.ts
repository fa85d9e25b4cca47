import fs from 'node:fs';
import path from 'node:path';

/**
 * Makes a directory (mode 0700) and those above it that are missing. Node's own recursive way never
 * returns where a directory cannot be made in one that is there, as in /proc.
 * @throws what the system says
 */
export function makeDirectory(dir: string): void {
  const found = fs.statSync(dir, { throwIfNoEntry: false });
  if (found?.isDirectory()) return;
  const above = path.dirname(dir);
  if (found === undefined && above !== dir) makeDirectory(above);
  try {
    fs.mkdirSync(dir, { mode: 0o700 });
  } catch (error) {
    const isThere = fs.statSync(dir, { throwIfNoEntry: false })?.isDirectory();
    if (!isThere) throw error; // else somebody else has made it meanwhile
  }
}
