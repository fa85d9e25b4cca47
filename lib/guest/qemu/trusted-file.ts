import fs from 'node:fs';
import { GodwitError } from '../../errors.ts';
import type { Refuse } from './definition-fields.ts';

/** A definition has a few kilobytes; this keeps a wrong file from being read for ever. */
const MAX_BYTES = 64 << 10;

/**
 * The text of a file from which commands are run. The opened file is looked at, so that what was
 * checked is what is read.
 */
export function readTrusted(file: string, refuse: Refuse): string {
  let fd: number | undefined;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK); // a FIFO would wait
    const stats = fs.fstatSync(fd);
    if (!stats.isFile() || stats.size > MAX_BYTES)
      throw refuse(`a definition is a file of at most ${MAX_BYTES} bytes`);
    requireTrusted(stats, refuse);
    return fs.readFileSync(fd, 'utf8');
  } catch (cause) {
    if (cause instanceof GodwitError) throw cause;
    throw refuse(`cannot be read: ${(cause as NodeJS.ErrnoException).code}`, cause);
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** Nobody but root and the agent's user may be able to write it. */
export function requireTrusted({ mode, uid }: fs.Stats, refuse: Refuse): void {
  if (mode & 0o022)
    throw refuse('others may write to it, so it cannot be trusted; use "chmod go-w"');
  if (uid !== 0 && uid !== process.getuid!())
    throw refuse(`belongs to user ${uid}, who may neither be trusted as root nor as this agent`);
}
