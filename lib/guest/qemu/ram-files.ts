import {
  closeSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { GodwitError } from '../../errors.ts';
import { formatSize } from '../../units.ts';
import { removeUnused, unusedBytes } from '../file-users.ts';
import type { KeptFiles } from '../hypervisor.ts';
import type { RamFile } from './definition.ts';

/**
 * The RAM files of a guest that is to arrive: sparse, so that a page of zeros needs no write, and
 * readable by nobody else, which those that QEMU makes are not. They are held open, so that nobody
 * takes them for left over before QEMU has mapped them.
 */
export class RamFiles {
  readonly #made: { readonly file: string; readonly fd: number }[] = [];
  /** The RAM blocks whose file is one that was kept. */
  readonly kept: readonly string[];

  /**
   * What a dead guest left in their place is removed.
   * @param sizes bytes of each of the guest's RAM blocks, by its name
   * @param kept as for `Hypervisor.arrive`
   * @throws GodwitError guest-exists when a process has one of them; definition-invalid for a block that
   *   the guest does not have; memory-insufficient, ram-file-failed. Then nothing of it is there
   */
  constructor(
    ram: readonly RamFile[],
    sizes: ReadonlyMap<string, number>,
    kept: KeptFiles = new Map(),
  ) {
    const files = ram.map(({ block, file }) => ({ block, file, bytes: sizeOf(block, sizes) }));
    try {
      for (const { file } of files) if (!removeUnused(file)) throw inUse(file);
      const isKept = ({ block, file }: { block: string; file: string }) =>
        movesTo(kept.get(block), file);
      const { true: old = [], false: fresh = [] } = Object.groupBy(files, (file) =>
        isKept(file) ? 'true' : 'false',
      );
      requireRoom(fresh);
      for (const { file, bytes } of old) this.#open(file, bytes, 'r+');
      for (const { file, bytes } of fresh) this.#open(file, bytes, 'wx');
      this.kept = old.map(({ block }) => block);
    } catch (cause) {
      this.remove();
      if (cause instanceof GodwitError) throw cause;
      const why = `cannot make the guest's RAM files: ${(cause as Error).message}`;
      throw new GodwitError('ram-file-failed', why, { cause });
    }
  }

  /** @throws GodwitError ram-file-failed when another file has taken the place of one of them */
  requireInPlace(): void {
    for (const { file, fd } of this.#made)
      if (!isAt(file, fd))
        throw new GodwitError('ram-file-failed', `${file} was replaced while QEMU started`);
  }

  /** Lets go of them: who has mapped them holds them now. */
  release(): void {
    for (const { fd } of this.#made.splice(0)) closeSync(fd);
  }

  /** Removes those that are still in place; not what somebody else has put there. */
  remove(): void {
    for (const { file, fd } of this.#made) if (isAt(file, fd)) rmSync(file, { force: true });
    this.release();
  }

  #open(file: string, bytes: number, how: 'wx' | 'r+'): void {
    const fd = openSync(file, how, 0o600);
    this.#made.push({ file, fd });
    ftruncateSync(fd, bytes);
  }
}

/** Not from one file system to another: then the guest gets a fresh file. */
function movesTo(kept: string | undefined, file: string): boolean {
  if (kept === undefined) return false;
  try {
    renameSync(kept, file);
    return true;
  } catch {
    return false;
  }
}

function sizeOf(block: string, sizes: ReadonlyMap<string, number>): number {
  const bytes = sizes.get(block);
  if (bytes !== undefined) return bytes;
  const known = [...sizes.keys()].join(', ');
  const text = `the definition has a file for RAM block "${block}", but the guest has ${known}`;
  throw new GodwitError('definition-invalid', text);
}

function inUse(file: string): GodwitError {
  return new GodwitError(
    'guest-exists',
    `${file} is in use: a guest that is here has its memory in it`,
  );
}

function isAt(file: string, fd: number): boolean {
  const [ours, there] = [fstatSync(fd), lstatSync(file, { throwIfNoEntry: false })];
  return ours.dev === there?.dev && ours.ino === there.ino;
}

interface SizedFile {
  readonly file: string;
  readonly bytes: number;
}

/**
 * Makes sure, without making or removing any, that there is room for RAM files of so many bytes
 * together, also in place of what a dead guest has left.
 * @returns false when it cannot be told: they are on several file systems
 * @throws GodwitError guest-exists, memory-insufficient, ram-file-failed
 */
export function requireRoomFor(ram: readonly RamFile[], bytes: number): boolean {
  const [first, ...others] = ram.map(({ file }) => file);
  if (first === undefined) return true;
  const deviceOf = (file: string) => statSync(dirname(file)).dev;
  try {
    let left = 0;
    for (const { file } of ram) {
      const freed = unusedBytes(file);
      if (freed === undefined) throw inUse(file);
      left += freed;
    }
    if (others.some((file) => deviceOf(file) !== deviceOf(first))) return false;
    requireRoom([{ file: first, bytes: bytes - left }]);
    return true;
  } catch (cause) {
    if (cause instanceof GodwitError) throw cause;
    const why = `cannot make the guest's RAM files: ${(cause as Error).message}`;
    throw new GodwitError('ram-file-failed', why, { cause });
  }
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
