import { GodwitError } from '../errors.ts';

/** Bytes in a guest page. */
export const PAGE_SIZE = 4096;
/** Pages in a chunk, the unit of reading, routing and batching (1 MiB). */
export const CHUNK_PAGES = 256;
/** Bytes in a chunk. */
export const CHUNK_SIZE = PAGE_SIZE * CHUNK_PAGES;
/** One past the highest pfn: page numbers travel as 32 bits, so a guest ends at 16 TiB. */
export const PFN_LIMIT = 2 ** 32 - CHUNK_PAGES;
/** Regions in one guest; QEMU has a few dozen RAM blocks. */
export const MAX_REGIONS = 1024;

/** A contiguous piece of guest memory. `firstPfn` is a multiple of CHUNK_PAGES. */
export interface Region {
  readonly name: string;
  readonly firstPfn: number;
  readonly pages: number;
}

/** Where the pages of a region stand in a file (tmpfs) that both hypervisor and agent can reach. */
export interface RegionFile {
  readonly region: Region;
  readonly path: string;
  /** Byte offset of the region's first page in the file. */
  readonly offset: number;
}

/**
 * The guest's page numbers: regions in rising order, chunk aligned, without overlap. Gaps are
 * allowed; `pfnEnd` sizes every bitmap and table, `totalPages` counts what exists.
 */
export class GuestLayout {
  readonly regions: readonly Region[];
  readonly totalPages: number;
  readonly pfnEnd: number;
  readonly chunks: number;

  /** @throws GodwitError bad-message when the regions are not a layout (they may come from a peer). */
  constructor(regions: readonly Region[]) {
    const refuse = (why: string) => new GodwitError('bad-message', `guest layout: ${why}`);
    if (regions.length === 0 || regions.length > MAX_REGIONS)
      throw refuse(`${regions.length} regions; 1 to ${MAX_REGIONS} are allowed`);
    let end = 0;
    let total = 0;
    const names = new Set<string>();
    for (const { name, firstPfn, pages } of regions) {
      if (name === '' || names.has(name)) throw refuse(`region name "${name}" empty or repeated`);
      if (firstPfn % CHUNK_PAGES !== 0)
        throw refuse(`region ${name} starts at pfn ${firstPfn}, not on a chunk`);
      if (firstPfn < end) throw refuse(`region ${name} overlaps the one before it`);
      if (pages < 1 || firstPfn + pages > PFN_LIMIT)
        throw refuse(`region ${name} has ${pages} pages from pfn ${firstPfn}; 16 TiB is the limit`);
      names.add(name);
      end = firstPfn + pages;
      total += pages;
    }
    this.regions = regions;
    this.totalPages = total;
    this.pfnEnd = end;
    this.chunks = Math.ceil(end / CHUNK_PAGES);
  }

  /** The region that holds a chunk, or undefined in a gap. */
  regionOfChunk(chunk: number): Region | undefined {
    const pfn = chunk * CHUNK_PAGES;
    return this.regions.find((r) => pfn >= r.firstPfn && pfn < r.firstPfn + r.pages);
  }

  /** True when the page exists in this guest. */
  has(pfn: number): boolean {
    const region = this.regionOfChunk(Math.floor(pfn / CHUNK_PAGES));
    return region !== undefined && pfn < region.firstPfn + region.pages;
  }
}

/** The lane that carries a chunk: always the same one, so that TCP's order is order enough. */
export function laneOfChunk(chunk: number, lanes: number): number {
  return chunk % lanes;
}
