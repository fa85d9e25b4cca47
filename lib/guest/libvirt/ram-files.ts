import fs from 'node:fs';
import path from 'node:path';
import { PAGE_SIZE, type Region, type RegionFile } from '../../memory/guest-layout.ts';
import { mapsShared } from '../file-users.ts';
import { looked, type ProcessIdentity } from '../process-identity.ts';

/** Of statfs(2): its files cannot be written to, only mapped. */
const HUGETLBFS = 0x958458f6;
/** How memory without a name is called; its backend has the name. */
const MEMFD = /^\/memfd:memory-backend-memfd(?: |$)/;

interface Open {
  readonly path: string;
  /** As the process has opened it; it may be gone, or in a place that only the process sees. */
  readonly link: string;
  readonly stats: fs.Stats;
}

/**
 * The files in which a QEMU has its memory so that what is written to them is seen in the guest: by the
 * descriptors that it has open, since a file may be unlinked, of another mount namespace, or a memfd.
 * A region whose file is not known for sure has none.
 */
export function ramFilesOf(
  { pid }: ProcessIdentity,
  regions: readonly Region[],
): readonly RegionFile[] {
  const open = openFiles(pid);
  return regions.flatMap((region) => {
    const bytes = region.pages * PAGE_SIZE;
    const fitting = open.filter(({ stats, link }) => stats.size === bytes && isOf(link, region));
    const [found, ...others] = fitting;
    const isOne = others.every(({ stats }) => stats.ino === found!.stats.ino);
    // Of two memfds that are alike nobody can say which is which.
    if (found === undefined || !isOne || !isUsable(pid, found)) return [];
    return [{ region, path: found.path, offset: 0 }];
  });
}

function isOf(link: string, { name }: Region): boolean {
  return MEMFD.test(link) || path.basename(link.replace(/ \(deleted\)$/, '')) === name;
}

function isUsable(pid: number, { path: file, link, stats }: Open): boolean {
  const type = looked(() => fs.statfsSync(file).type);
  return type !== undefined && type !== HUGETLBFS && mapsShared(pid, link, stats);
}

function openFiles(pid: number): Open[] {
  const dir = `/proc/${pid}/fd`;
  return (looked(() => fs.readdirSync(dir)) ?? []).flatMap((fd) => {
    const file = path.join(dir, fd);
    const link = looked(() => fs.readlinkSync(file));
    const stats = looked(() => fs.statSync(file));
    return link !== undefined && stats?.isFile() ? [{ path: file, link, stats }] : [];
  });
}
