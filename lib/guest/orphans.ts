import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { removeUnused } from './file-users.ts';
import { identify, isAlive, type ProcessIdentity } from './process-identity.ts';

/** A guest's memory; memory that is on its way into a hypervisor; memory of one that has left. */
export type MemoryFileKind = 'ram' | 'staging' | 'kept';

/**
 * The name of a file that this process makes for a guest's memory. It says who has made it, so that
 * it is known to be nobody's when that one was killed.
 */
export function memoryFileName(guest: string, kind: MemoryFileKind): string {
  const { pid, startTime } = identify(process.pid)!;
  return `godwit-${guest}-${pid}-${startTime}-${randomBytes(6).toString('hex')}.${kind}`;
}

/**
 * Removes the memory files in a directory that are provably nobody's: whoever has made them has ended,
 * no process has them open or mapped, and their guest is in no migration that is not ended.
 * @param isOpen whether a journal knows an open migration of a guest of that name
 * @returns the paths of what was removed
 */
export function removeOrphans(dir: string, isOpen: (guest: string) => boolean): string[] {
  const removed: string[] = [];
  for (const name of namesIn(dir)) {
    const made = madeBy(name);
    if (made === undefined || isAlive(made.maker) || isOpen(made.guest)) continue;
    const file = join(dir, name);
    if (removes(file)) removed.push(file);
  }
  return removed;
}

function madeBy(name: string): { guest: string; maker: ProcessIdentity } | undefined {
  const [, guest, pid, startTime] =
    /^godwit-(.+)-(\d+)-(\d+)-[0-9a-f]{12}\.(?:ram|staging)$/.exec(name) ?? [];
  if (guest === undefined) return undefined;
  return { guest, maker: { pid: Number(pid), startTime: Number(startTime) } };
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // there is nothing in it
  }
}

/** Whatever keeps it from being removed will be there for a person to see. */
function removes(file: string): boolean {
  try {
    return lstatSync(file).isFile() && removeUnused(file);
  } catch {
    return false;
  }
}
