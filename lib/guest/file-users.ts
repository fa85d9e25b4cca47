import { lstatSync, readFileSync, rmSync, type Stats } from 'node:fs';
import { hasOpen, looked, pids } from './process-identity.ts';

/** Of `st_blocks`, whatever the file system. */
const BLOCK_SIZE = 512;

/**
 * Whether a process has this file mapped so that what is written to the file is seen in its memory:
 * proc(5), `/proc/PID/maps`. Some file systems show another device there than stat(2); then the path
 * must agree, which that of a file that was removed does not.
 */
export function mapsShared(pid: number, file: string, stats: Stats): boolean {
  return mappingsOf(pid).some(
    (mapping) => mapping.shared && mapping.inode === stats.ino && isOf(mapping, file, stats),
  );
}

/**
 * Removes a file, unless a process has it open or mapped; harmless when it is gone. A process that
 * may not be looked at belongs to another user, who has no access to files of mode 0600.
 * @returns false when it is in use
 */
export function removeUnused(file: string): boolean {
  return removeUnless(file, (pid, stats) => hasOpen(pid, file) || maps(pid, file, stats));
}

/**
 * Removes the file of a memory, unless a process has it mapped, as another guest may have that was
 * given a file of the same name. Agents only have it open. @returns false when it is in use
 */
export function removeUnmapped(file: string): boolean {
  return removeUnless(file, (pid, stats) => maps(pid, file, stats));
}

/** Bytes that `removeUnused` would free, 0 when there is no file; undefined when it is in use. */
export function unusedBytes(file: string): number | undefined {
  const stats = lstatSync(file, { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  return isUsed(stats, (pid) => hasOpen(pid, file) || maps(pid, file, stats))
    ? undefined
    : stats.blocks * BLOCK_SIZE;
}

function removeUnless(file: string, uses: (pid: number, stats: Stats) => boolean): boolean {
  const stats = lstatSync(file, { throwIfNoEntry: false });
  if (stats === undefined) return true;
  if (isUsed(stats, (pid) => uses(pid, stats))) return false;
  rmSync(file, { force: true });
  return true;
}

function isUsed(stats: Stats, uses: (pid: number) => boolean): boolean {
  return stats.isFile() && pids().some(uses);
}

interface Mapping {
  /** Major and minor number as in `1a:3`, hexadecimal. */
  readonly device: string;
  readonly inode: number;
  readonly shared: boolean;
  readonly path: string;
}

function mappingsOf(pid: number): Mapping[] {
  const lines = looked(() => readFileSync(`/proc/${pid}/maps`, 'utf8'))?.split('\n') ?? [];
  return lines.flatMap((line) => {
    // address perms offset dev inode path
    const [, sharing, device, inode, path] = /^\S+ ...(.) \S+ (\S+) (\d+) +(.*)$/.exec(line) ?? [];
    if (path === undefined) return [];
    return [{ device: device!, inode: Number(inode), shared: sharing === 's', path }];
  });
}

function maps(pid: number, file: string, stats: Stats): boolean {
  return mappingsOf(pid).some(
    (mapping) => mapping.inode === stats.ino && isOf(mapping, file, stats),
  );
}

function isOf({ device, path }: Mapping, file: string, { dev }: Stats): boolean {
  const [major, minor] = device.split(':').map((part) => Number.parseInt(part, 16));
  return (major === majorOf(dev) && minor === minorOf(dev)) || path === file;
}

/** As makedev(3) of glibc puts them together; bits above 2^32 are nobody's. */
function majorOf(dev: number): number {
  return (dev >>> 8) & 0xfff;
}

function minorOf(dev: number): number {
  return (dev & 0xff) | ((dev >>> 12) & 0xfff00);
}
