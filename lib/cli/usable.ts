import fs from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../errors.ts';
import type { Option } from './cli.ts';

const { R_OK, W_OK, X_OK } = fs.constants;

/** File systems in which only the kernel makes files, by statfs(2): proc, sysfs, cgroup2, devpts. */
const OF_THE_KERNEL = new Set([0x9fa0, 0x62656572, 0x63677270, 0x1cd1]);

/**
 * Looks at the path that an option names, and changes nothing: a FILE can be read, a DIR can be
 * written to or made, a PATH (of a socket) can be made in its directory. Any other value is fine.
 * @throws GodwitError bad-option
 */
export function checkUsable(name: string, { value }: Option, text: string): void {
  try {
    if (value === 'FILE') checkFile(text);
    if (value === 'DIR') checkDirectory(path.resolve(text));
    if (value === 'PATH') checkDirectory(path.dirname(path.resolve(text)));
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    throw new GodwitError('bad-option', `--${name} ${text} cannot be used: ${why}`, { cause });
  }
}

function checkFile(file: string): void {
  if (!fs.statSync(file).isFile()) throw new Error('it is not a file');
  fs.accessSync(file, R_OK);
}

/** A directory that is not there yet is made in the nearest one that is. */
function checkDirectory(dir: string): void {
  const found = fs.statSync(dir, { throwIfNoEntry: false });
  if (found === undefined) return checkDirectory(path.dirname(dir));
  if (!found.isDirectory()) throw new Error(`${dir} is not a directory`);
  fs.accessSync(dir, R_OK | W_OK | X_OK);
  if (OF_THE_KERNEL.has(fs.statfsSync(dir).type)) throw new Error('no files can be made there');
}
