import { closeSync, ftruncateSync, openSync, rmSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { GodwitError } from '../../errors.ts';
import { formatSize } from '../../units.ts';
import type { RamFile } from './definition.ts';

/**
 * Makes the RAM files of a guest that is to arrive: sparse, so that a page of zeros needs no write,
 * and readable by nobody else, which those that QEMU makes are not. What a dead guest left is removed.
 * @param sizes bytes of each of the guest's RAM blocks, by its name
 * @throws GodwitError definition-invalid for a block that the guest does not have,
 *   memory-insufficient, ram-file-failed; then some may be there
 */
export function makeRamFiles(ram: readonly RamFile[], sizes: ReadonlyMap<string, number>): void {
  const files = ram.map(({ block, file }) => ({ file, bytes: sizes.get(block) ?? unknown(block) }));
  try {
    removeRamFiles(ram);
    requireRoom(files);
    for (const { file, bytes } of files) makeFile(file, bytes);
  } catch (cause) {
    if (cause instanceof GodwitError) throw cause;
    const why = `cannot make the guest's RAM files: ${(cause as Error).message}`;
    throw new GodwitError('ram-file-failed', why, { cause });
  }

  function unknown(block: string): never {
    const known = [...sizes.keys()].join(', ');
    const text = `the definition has a file for RAM block "${block}", but the guest has ${known}`;
    throw new GodwitError('definition-invalid', text);
  }
}

/** Frees the memory of a guest that is gone. */
export function removeRamFiles(ram: readonly RamFile[]): void {
  for (const { file } of ram) rmSync(file, { force: true });
}

interface SizedFile {
  readonly file: string;
  readonly bytes: number;
}

/** Files on one file system share its room. */
function requireRoom(files: readonly SizedFile[]): void {
  const needs = Map.groupBy(files, ({ file }) => statSync(dirname(file)).dev);
  for (const sharing of needs.values()) {
    const dir = dirname(sharing[0]!.file);
    const { bavail, bsize } = statfsSync(dir);
    const room = bavail * bsize;
    const bytes = sharing.reduce((sum, file) => sum + file.bytes, 0);
    if (room < bytes)
      throw new GodwitError(
        'memory-insufficient',
        `the guest needs RAM files of ${formatSize(bytes)}, but ${dir} has room for ${formatSize(room)}`,
      );
  }
}

function makeFile(file: string, bytes: number): void {
  const fd = openSync(file, 'wx', 0o600);
  try {
    ftruncateSync(fd, bytes);
  } finally {
    closeSync(fd);
  }
}
